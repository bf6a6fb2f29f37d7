"""python -m zsad.cli"""

from zsad.cli import main

main()
