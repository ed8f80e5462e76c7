"""What test modules share: sample repositories, a git server that misbehaves on cue, small machines."""
