"""What a user reads when a program faults, the same from every engine."""

from __future__ import annotations

from tvm_tinyml.device.engine import BudgetError, FaultError
from tvm_tinyml.device.loader import Image

BREAKPOINT = "it meets a breakpoint (BKPT)"
SERVICE = "it asks an operating system for a service (SVC)"
WAITING = "it waits for an event that no device will send (WFI or WFE)"
MISALIGNED = "the access is misaligned"


class Faults:
    """Makes the errors of one core; ``image`` is the program that runs, whose functions they name."""

    def __init__(self, core: str) -> None:
        self._core = core
        self.image: Image | None = None

    def fault(self, pc: int, reason: str, address: int | None = None) -> FaultError:
        """For any other reason than those below."""
        return FaultError(f"{self._core}: the program faults at {self.describe(pc)}: {reason}", pc, address)

    def access(self, pc: int, verb: str, address: int, size_bytes: int, *, read_only: bool = False) -> FaultError:
        """An access to where nothing is, or a write (``verb``: reads, writes) to what is read-only."""
        where = "which is read-only" if read_only else "where no memory is"
        return self.fault(pc, f"it {verb} {size_bytes} bytes at {address:#010x}, {where}", address)

    def misaligned_words(self, pc: int, address: int) -> FaultError:
        """LDM, LDRD, VLDR and their kin at an address that is no multiple of 4."""
        return self.fault(pc, f"it accesses several words at {address:#010x}, not a multiple of 4", address)

    def jump(self, pc: int, return_address: int) -> FaultError:
        """Execution of what is no code; ``return_address`` as in register lr."""
        caller = self.describe(return_address & ~1)
        return self.fault(pc, f"it jumps to a place where no code is; the last return address is {caller}", pc)

    def budget(self, entry: int, pc: int, budget: int) -> BudgetError:
        """The budget is spent."""
        return BudgetError(
            f"{self.describe(entry)} did not return within its budget of {budget} instructions; it was at "
            f"{self.describe(pc)}. Raise the budget, unless the program loops for ever",
            pc,
            budget,
        )

    def describe(self, address: int) -> str:
        """An address, with the function that it lies in."""
        return self.image.describe(address) if self.image else f"{address:#010x}"


def code_text(code: bytes) -> str:
    """Code as halfwords, the way manuals write instructions."""
    return " ".join(f"{int.from_bytes(code[i : i + 2], 'little'):04x}" for i in range(0, len(code), 2))
