"""A client on oras-py that does what its arguments say, for the tests of conformance/tests/it/clients:

    oras_client.py push  HOST/REPOSITORY:TAG FILE
    oras_client.py pull  HOST/REPOSITORY:TAG FOLDER

It logs in first, with ORAS_USERNAME and ORAS_PASSWORD (without them it comes as nobody), into the configuration file ORAS_CONFIG (oras-py's login asks
nothing of the registry: a wrong key shows at the first transfer). push prints the digest that the registry answered;
pull prints the paths of what it wrote.
"""

import os
import sys

import oras.client
import oras.decorator


def main(verb, target, path):
    config = os.environ["ORAS_CONFIG"]
    host = target.split("/", 1)[0]
    # With a token in hand this client takes no challenge for a wider scope (the pull of its first HEAD, then the push), so
    # it pushes with Basic, which the registry takes as well; it pulls with a token.
    backend = "basic" if verb == "push" else "token"
    client = oras.client.OrasClient(hostname=host, insecure=True, auth_backend=backend)
    if os.environ.get("ORAS_USERNAME"):
        client.login(
            username=os.environ["ORAS_USERNAME"],
            password=os.environ["ORAS_PASSWORD"],
            hostname=host,
            config_path=config,
        )
    if verb == "push":
        folder, name = os.path.split(path)
        os.chdir(folder)
        answer = client.push(target=target, files=[name], config_path=config)
        answer.raise_for_status()
        print(answer.headers["Docker-Content-Digest"])
    elif verb == "pull":
        for written in client.pull(target=target, outdir=path, config_path=config):
            print(written)
    else:
        raise SystemExit(f"unknown verb {verb}")


if __name__ == "__main__":
    # The library answers a refusal by waiting and trying again, over two minutes in all; a refusal is final here.
    oras.decorator.time.sleep = lambda _: None
    try:
        main(*sys.argv[1:])
    except Exception as error:  # one line is what the tests read
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
