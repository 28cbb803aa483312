"""The numbers of include/linux/swap.h."""

from pagewatch.model.arch import swaptypes
from pagewatch.model.arch.format import DEVICE, DEVICE_EXCLUSIVE, HWPOISON, MARKER, MIGRATION, SWAP


def test_the_last_eight_types_are_no_swap_files():
    assert len(swaptypes.KIND_OF_TYPE) == swaptypes.N_SWAP_TYPES == 32
    assert set(swaptypes.KIND_OF_TYPE[:24]) == {SWAP}
    assert swaptypes.KIND_OF_TYPE[24:] == (
        HWPOISON,
        MIGRATION,
        MIGRATION,
        MIGRATION,
        DEVICE,
        DEVICE,
        DEVICE_EXCLUSIVE,
        MARKER,
    )


def test_names_stand_for_their_place():
    named = {name: value for name, value in vars(swaptypes).items() if name.startswith("SWP_")}
    assert sorted(named.values()) == list(range(24, 32))
    assert named["SWP_MIGRATION_WRITE"] == 27
    assert named["SWP_PTE_MARKER"] == 31
