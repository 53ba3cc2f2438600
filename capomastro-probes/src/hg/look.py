# Tells what branches and bookmarks of the repository at the first argument are at. The second is "look", and the kind and the
# name of each follow; one line is printed for each, in their order: a word, a blank, and what belongs to it. Or the second is
# "export", and a node, a folder for files and one for a copy follow; one line is printed. A line that begins with "all" is for
# everything that was asked.
import os
import struct
import sys


def say(word, text=""):
    line = "%s %s" % (word, str(text).replace("\n", " "))
    sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")


def stop(word, text=""):
    say("all " + word, text)
    sys.stdout.buffer.flush()
    os._exit(0)


try:
    from mercurial import archival, bookmarks, error, hg, node, ui as uimod, util
except ImportError as e:
    stop("missing", e)

# What everybody may see who asks the repository over a network.
SERVED = b"served"


def text(e):
    message = b" ".join(a for a in getattr(e, "args", ()) if isinstance(a, bytes))
    return message.decode("utf-8", "replace") or "%s: %s" % (type(e).__name__, e)


def is_closed(peer, head, others):
    # Of the history that only this head has, the changesets alone are read: they come first. The line with the date and the
    # extras differs from that of what it is told against, so that it is told.
    with peer.commandexecutor() as executor:
        arguments = {b"source": b"look", b"heads": [head], b"common": others}
        group = executor.callcommand(b"getbundle", arguments).result()
    group.changelogheader()
    previous = None
    while True:
        chunk = group.deltachunk(previous)
        if not chunk:
            return False
        previous, delta = chunk[0], chunk[5]
        if previous == head:
            break
    at, added = 0, []
    while at < len(delta):
        start, end, length = struct.unpack(">lll", delta[at:at + 12])
        added.append(delta[at + 12:at + 12 + length])
        at += 12 + length
    for line in b"".join(added).split(b"\n"):
        words = line.split(b" ", 2)
        if len(words) > 1 and words[0].lstrip(b"-").isdigit() and words[1].lstrip(b"-").isdigit():
            return len(words) > 2 and b"close:1" in words[2].split(b"\0")
    return False


def pick(heads, opened):
    if len(heads) == 1:
        return say("node", node.hex(heads[0]).decode())
    if len(opened) == 1:
        return say("node", node.hex(opened[0]).decode())
    if not opened:
        return say("closed")
    say("several", " ".join(node.hex(head).decode() for head in opened[:8]))


def look_here(repo, kind, name):
    served = repo.filtered(SERVED)
    if kind == "bookmark":
        marks = dict(bookmarks.listbinbookmarks(served))
        return say("node", node.hex(marks[name]).decode()) if name in marks else say("none")
    branches = served.branchmap()
    if not branches.hasbranch(name):
        return say("none")
    pick(branches.branchheads(name, closed=True), branches.branchheads(name, closed=False))


def look_there(peer, kind, name):
    with peer.commandexecutor() as executor:
        if kind == "bookmark":
            marks = executor.callcommand(b"listkeys", {b"namespace": b"bookmarks"}).result()
        else:
            branches = executor.callcommand(b"branchmap", {}).result()
    if kind == "bookmark":
        return say("node", marks[name].decode()) if name in marks else say("none")
    heads = branches.get(name)
    if not heads:
        return say("none")
    opened = heads
    if len(heads) > 1:
        opened = [h for h in heads if not is_closed(peer, h, [o for o in heads if o != h])]
    pick(heads, opened)


def export(ui, url, path, wanted, folder, copy):
    if path is None:
        try:
            hg.clone(ui, {}, url, os.fsencode(copy), pull=True, revs=[wanted.encode()], update=False)
        except error.RepoLookupError:
            return say("gone", wanted)
        path = os.fsencode(copy)
    repo = hg.repository(ui, path)
    try:
        found = repo[node.bin(wanted)].node()
    except error.RepoLookupError:
        return say("gone", wanted)
    archival.archive(repo, os.fsencode(folder), found, b"files", decode=False, subrepos=False)
    say("written", folder)


def main():
    url, mode, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    ui = uimod.ui.load()
    ui.setconfig(b"ui", b"interactive", b"off")
    ui.setconfig(b"ui", b"quiet", b"on")
    ui.setconfig(b"ui", b"archivemeta", b"off")
    ssh, remote = os.environb.get(b"CAPOMASTRO_HG_SSH"), os.environb.get(b"CAPOMASTRO_HG_REMOTE")
    if ssh:
        ui.setconfig(b"ui", b"ssh", ssh)
        ui.setconfig(b"ui", b"remotecmd", remote or b"hg")
    credentials = os.environ.get("CAPOMASTRO_HG_CREDENTIALS")
    if credentials:
        with open(credentials, "rb") as file:
            user, password = file.read().split(b"\n", 1)
        scheme, place = os.fsencode(url).split(b"://", 1)
        # For the server of the source, and no other.
        for name, value in (("prefix", place), ("schemes", scheme), ("username", user), ("password", password)):
            ui.setconfig(b"auth", b"source." + name.encode(), value)
    path = url[len("file://"):] if url.startswith("file://") else None
    if path is not None:
        if not os.path.isdir(path):
            parent = os.path.dirname(path)
            if not os.path.isdir(parent):
                stop("nowhere", path)
            stop("none", path)
        if not os.path.isdir(os.path.join(path, ".hg")):
            stop("nowhere", path)
        path = os.fsencode(path)
    if mode == "export":
        return export(ui, os.fsencode(url), path, *rest)
    place = hg.repository(ui, path) if path is not None else hg.peer(ui, {}, os.fsencode(url))
    look = look_here if path is not None else look_there
    for kind, name in zip(rest[::2], rest[1::2]):
        look(place, kind, name.encode("utf-8"))


try:
    main()
except error.RequirementError as e:
    stop("unknown", text(e))
except (error.RepoError, error.ResponseError, error.OutOfBandError) as e:
    told = text(e)
    stop("nowhere" if "not found" in told or "not appear" in told else "error", told)
except util.urlerr.httperror as e:
    stop({401: "denied", 403: "denied", 407: "denied", 404: "nowhere", 410: "nowhere", 429: "busy"}.get(e.code, "error"), e)
except util.urlerr.urlerror as e:
    stop("unreachable", e)
except PermissionError as e:
    stop("denied", e)
except error.Abort as e:
    told = text(e)
    stop("denied" if "authorization" in told else "error", told)
except Exception as e:
    stop("error", "%s: %s" % (type(e).__name__, text(e)))
sys.stdout.buffer.flush()
