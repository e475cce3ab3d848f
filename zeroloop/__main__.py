"""`python -m zeroloop`."""

from zeroloop.main import run

if __name__ == "__main__":
    run()
