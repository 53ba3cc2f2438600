# Tells the tip of the branch at the place that is the first argument, or of the one colocated there that the second names.
# Prints a word, a line that belongs to it, and for a tip the revision id. With a revision id and a folder behind them, which
# is not there yet, that revision is written into the folder instead.
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


def reference(control, name):
    # What the place refers to, if it is no branch itself. Asked before it is opened, since opening would follow it.
    ask = getattr(control, "_get_branch_reference", None)
    if ask is None:
        return control.get_branch_reference(name=name)
    kind, location = ask()[:2]
    return location if kind in ("ref", b"ref") else None


def export(branch, revision, folder):
    from breezy.export import export as write

    with branch.lock_read():
        if not branch.repository.has_revision(revision):
            say("gone", revision.decode("utf-8"))
            return
        # One time for all files, so that the same revision is the same folder.
        tree = branch.repository.revision_tree(revision)
        write(tree, folder, "dir", root="", per_file_timestamps=False)
    say("written", folder)


with breezy.initialize(setup_ui=False):
    import breezy.bzr
    from breezy import branch as branch_module
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
        name = name or None
        for _ in range(6):
            location = reference(control, name)
            if location is None:
                break
            if isinstance(location, bytes):
                location = location.decode("utf-8")
            # A server does not get to say what of this machine is read, nor a folder which server is asked.
            if parent is None or not location.startswith("file:///"):
                say("elsewhere", location)
                sys.exit(0)
            location, parameters = urlutils.split_segment_parameters(location)
            name = parameters.get("branch")
            name = urlutils.unescape(name) if name else None
            control = ControlDir.open_from_transport(transport.get_transport(location))
        else:
            say("circle", location)
            sys.exit(0)
        # What it is stacked on holds revisions, and says nothing of the tip.
        branch = control.open_branch(name=name, unsupported=False, ignore_fallbacks=True)
        if len(sys.argv) > 4:
            try:
                below = urlutils.join(branch.user_url, branch.get_stacked_on_url())
            except (errors.NotStacked, branch_module.UnstackableBranchFormat):
                below = None
            if below is not None:
                here = urlutils.URL.from_string(branch.user_url)
                there = urlutils.URL.from_string(below)
                if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
                    say("elsewhere", below)
                    sys.exit(0)
                branch = control.open_branch(name=name)
            export(branch, sys.argv[3].encode("utf-8"), sys.argv[4])
            sys.exit(0)
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
