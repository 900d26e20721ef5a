"""`python -m worker`: heed signals, then import the rest, which takes its time."""

from shared import early_signals

if __name__ == "__main__":
    early_signals.heed()
    from worker.main import main

    try:
        raise SystemExit(main())
    finally:
        early_signals.ignore()
