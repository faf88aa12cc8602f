"""Many people in one go: subjects, the work on one of them, pools that spread it, and the summary.

    subjects → tasks → a pool (`local` or `cluster`) → `runner.run_subject` → a child process per subject

Everything that is known about a subject stands in its own folder (`records`), so a batch can be stopped,
killed and begun again at any time.
"""
