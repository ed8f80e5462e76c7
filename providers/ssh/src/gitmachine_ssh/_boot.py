"""What the account's login shell is told: become a plain ``sh`` with a clean environment, and say so.

sshd hands every command to the login shell, and bash reads ``.bashrc`` for it. The words here mean the same to every
shell that anybody logs in with (sh, bash, zsh, csh, fish): one program and one argument in single quotes. Whatever
was printed before the hello is noise; what was set is gone, but for the few variables that are kept.
"""

from __future__ import annotations

__all__ = ["shell_command", "terminal_command"]

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""What a command has of the login's environment; HOME only until the machine sets its own."""


def _kept(quote: str, dollar: str) -> str:
    return " ".join(f"${{{name}:+{quote}{name}=${name}{quote}}}".replace("$", dollar) for name in KEPT)


def shell_command(sh: str, hello: str) -> str:
    """Return the command that becomes a shell which reads what to do, after saying hello on both outputs."""
    say = f'printf "%s%s\\n" {hello} $$'
    return f"exec {sh} -c '{say}; {say} >&2; exec env -i _gm_hello={hello} {_kept(chr(34), '$')} {sh}'"


def terminal_command(sh: str, hello: str) -> str:
    """Return the same for a session on a terminal: says hello there, then reads a length, and a script of that length.

    The terminal is raw meanwhile, so that the script comes through as it is; its settings are in ``$_gm_tty``.
    """
    inner = (
        r"_gm_tty=\$(stty -g); stty raw -echo; "
        rf"printf \"%s%s\\n\" {hello} \$\$; "
        r"IFS= read -r _gm_n; eval \"\$(head -c \$_gm_n)\""
    )
    return f"exec {sh} -c 'exec env -i _gm_hello={hello} {_kept(chr(34), '$')} {sh} -c \"{inner}\"'"
