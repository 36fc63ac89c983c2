"""Two runs side by side never share a port."""

import socket

from chaoslab.stack.ports import BLOCK, PortBlock


def test_blocks_of_two_runs_do_not_meet() -> None:
    """The first port of a block stays bound, so no other run claims the block."""
    one, two = PortBlock(), PortBlock()
    mine, theirs = {one.take() for _ in range(20)}, {two.take() for _ in range(20)}
    one.release()
    two.release()
    assert not mine & theirs


def test_a_port_that_somebody_listens_on_is_left_out() -> None:
    """A port taken by a stranger is not handed out."""
    block = PortBlock()
    first = block.take()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an old connection may still be in TIME_WAIT there
        stranger.bind(("127.0.0.1", first + 1))
        stranger.listen()
        assert block.take() == first + 2
    block.release()


def test_a_released_block_can_be_claimed_again() -> None:
    """Nothing is used up by many runs."""
    for _ in range(3 * 30_000 // BLOCK // 10):
        PortBlock().release()
