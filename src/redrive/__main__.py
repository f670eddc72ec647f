"""`python -m redrive` is `redrive`."""

from redrive.cli import main

if __name__ == "__main__":
    main()
