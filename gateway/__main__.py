"""`python -m gateway`: heed signals, then import the rest, which takes its time."""

from shared import early_signals

if __name__ == "__main__":
    early_signals.heed()
    from gateway.main import main

    try:
        main()
    finally:
        early_signals.ignore()
