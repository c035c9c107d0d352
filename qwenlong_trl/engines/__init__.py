"""What differs between the engines that a training runs on, and repairs of defects in the libraries below.

Each file says at its top which versions it is for, what the reason upstream is, and when it can be deleted; a test in
`tests/contract` or beside it fails when that day has come.
"""
