import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None: ...


def main(args: argparse.Namespace, permitted: object = ()) -> int:
    return 1
