"""Receipts are plain data.

Time budget: 1 s.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gitmachine.outcomes import Kept, KeptKind, Receipt, Rescue, Withheld


def test_a_receipt_goes_through_json():
    receipt = Receipt(
        branch="s",
        local_sha="a",
        remote_sha=None,
        pushed=False,
        published=("refs/heads/s",),
        kept=(Kept(kind=KeptKind.NESTED, name="sub", sha="b", commits=2, path="sub"),),
        withheld=(Withheld(path=".env", reason="secret"),),
        rescue=Rescue(
            repository="/r",
            bundle=None,
            sha="a",
            branch="s",
            reason="down",
            machine_kept=True,
            time=datetime(2026, 1, 2, tzinfo=UTC),
        ),
    )
    data = json.loads(json.dumps(receipt.as_dict()))
    assert data["kept"] == [{"kind": "nested", "name": "sub", "sha": "b", "ref": "", "commits": 2, "path": "sub"}]
    assert data["rescue"]["time"] == "2026-01-02T00:00:00+00:00"
    assert data["published"] == ["refs/heads/s"]
    assert data["pushed"] is False
