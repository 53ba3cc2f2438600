# Tells the tip of the branch at the place that is the first argument, or of the one colocated there that the second names.
# Prints a word, a line that belongs to it, and for a tip the revision id.
import os
import sys


def say(word, *lines):
    text = "\n".join([word] + [str(line).replace("\n", " ") for line in lines]) + "\n"
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))


try:
    import breezy
except ImportError as error:
    say("missing", error)
    sys.exit(0)
with breezy.initialize(setup_ui=False):
    import breezy.bzr
    from breezy import config, errors, transport, urlutils
    from breezy.controldir import ControlDir

    url, name = sys.argv[1], sys.argv[2]
    parent = None
    if url.startswith("file://"):
        path = url[len("file://"):]
        url = urlutils.local_path_to_url(path)
        parent = os.path.dirname(path)
    try:
        if url.startswith("lp:"):
            from breezy.plugin import load_plugins

            load_plugins()
        from breezy.directory_service import directories

        place = directories.dereference(url, purpose="read")
        credentials = os.environ.get("CAPOMASTRO_BZR_CREDENTIALS")
        if credentials:
            with open(credentials, encoding="utf-8") as file:
                user, password = file.read().split("\n", 1)
            server = urlutils.URL.from_string(place)

            def known(self, scheme, host, port=None, *_rest, **_named):
                # For the server of the source, and no other.
                if (scheme, host, port) != (server.scheme, server.host, server.port):
                    return None
                return {"name": "source", "user": user, "password": password, "verify_certificates": None}

            config.AuthenticationConfig.get_credentials = known
        if parent is not None and not os.path.isdir(path) and not os.path.isdir(parent):
            say("no branch", path)
            sys.exit(0)
        try:
            control = ControlDir.open_from_transport(transport.get_transport(place))
        except errors.NotBranchError:
            if parent is not None and os.path.isdir(path):
                say("no branch", path)
                sys.exit(0)
            raise
        branch = control.open_branch(name=name or None, unsupported=False)
        revno, revision = branch.last_revision_info()
        if revision == b"null:":
            say("none", "")
        else:
            say("tip", revno, revision.decode("utf-8"))
    except errors.NotBranchError:
        say("none", "")
    except (errors.UnknownFormatError, errors.UnsupportedFormatError) as error:
        say("unknown", error)
    except PermissionError as error:
        say("denied", error)
    except errors.BzrError as error:
        kind, code = type(error).__name__, getattr(error, "code", None)
        if kind in ("PermissionDenied", "AuthenticationFailed") or code in (401, 403, 407):
            say("denied", error)
        elif code == 429:
            say("busy", error)
        elif kind in ("ConnectionError", "SocketConnectionError", "ConnectionTimeout"):
            say("unreachable", error)
        else:
            say("error", "%s: %s" % (kind, error))
    except Exception as error:
        say("error", "%s: %s" % (type(error).__name__, error))
