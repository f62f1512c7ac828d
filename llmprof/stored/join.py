"""Placing every tensor of a file in an architecture.

First what is no parameter by its name, and what belongs to another tensor; then the parameters. A tensor takes the
first of its readings that the architecture has, that nobody has taken, and whose number of values is its own; those
with one reading choose first. Nothing is fitted: what has no place is said to be unexplained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from llmprof.importing.headers.tensor import StoredFile, StoredTensor
from llmprof.predict.parameters import parameters
from llmprof.predict.released import released
from llmprof.spec.arch import ArchSpec
from llmprof.stored import names
from llmprof.stored.architecture import wanted
from llmprof.stored.joined import Item, Joined, Kind, Lacking
from llmprof.stored.names import Name, name_of
from llmprof.stored.norms import behind, named_by_use
from llmprof.stored.packing import Unpacked, companion_of, unpacked
from llmprof.stored.place import Place, common, counts, lies, part_counts
from llmprof.stored.reading import Reading, Slot

EMBED: Slot = ("embed", "weight")
HEAD: Slot = ("lm_head", "weight")
MOST_PADDING = 1024
"""Rows beyond the vocabulary from which on they are no padding: the widest multiple that trainers pad to.

Megatron pads to 128 x the degree of tensor parallelism, 8 at most within a node (`--make-vocab-size-divisible-by`;
https://github.com/NVIDIA/Megatron-LM, recalled).
"""

_BESIDE = {names.BUFFER: Kind.BUFFER, names.TOWER: Kind.TOWER, names.TASK: Kind.TASK}


def join(arch: ArchSpec, file: StoredFile) -> Joined:
    """The file against the architecture. Raises InputError where its `release` packs what cannot be packed so."""
    return _Join(arch, file).joined()


@dataclass(slots=True)
class _Unit:
    """A tensor that may be a parameter, and its readings in this architecture.

    `rank` is that of the first of them among all that its name has; `further`: of a layer of further tokens.
    """

    tensor: StoredTensor
    held: Unpacked
    expert: int | None
    readings: tuple[Reading, ...]
    rank: int
    further: bool = False


class _Join:
    """The state of one join: the places of the architecture, and the items so far."""

    def __init__(self, arch: ArchSpec, file: StoredFile) -> None:
        self.arch, self.file = arch, file
        self.places = {slot: Place(each) for slot, each in wanted(arch).items()}
        self.depth = len(arch.main.layers)
        self.named_by_use = named_by_use(arch, file)
        self.towers = any(names.LANGUAGE in tensor.name.split(".") for tensor in file.tensors)
        self.tensors: Mapping[str, StoredTensor] = {tensor.name: tensor for tensor in file.tensors}
        self.items: list[Item] = []

    def joined(self) -> Joined:
        """Places all tensors, and sees what is left."""
        units: list[_Unit] = []
        companions: dict[str, str] = {}
        for tensor in self.file.tensors:
            base = companion_of(tensor.name, self.tensors)
            if base is not None:
                companions[tensor.name] = base
            elif (unit := self._unit(tensor)) is not None:
                units.append(unit)
        for unit in sorted(units, key=lambda each: (each.rank, len(each.readings) > 1)):
            self._place(unit)
        self._companions(companions)
        counted, stated = parameters(self.arch), released(self.arch)
        made = Joined(
            arch=self.arch,
            file=self.file,
            params_total=counted.total,
            items=tuple(self.items),
            lacking=tuple(self._lacking()),
            further_expected=counted.mtp,
            stated_bytes=None if stated is None else stated.model,
            notes=(*self.file.facts, *self._remarks()),
        )
        assert sum(item.whole for item in made.items) == len(self.file.tensors), "every tensor stands in one item"
        assert sum(item.nbytes for item in made.items) == self.file.nbytes, "and every byte"
        assert sum(values for _, values in made.balance()) == made.values, "and what is beside is what is beside"
        return made

    # --- what a tensor may be ---------------------------------------------------------------------

    def _unit(self, tensor: StoredTensor) -> _Unit | None:
        """The readings of a tensor that exist here; None where it is an item already."""
        if not tensor.elements:
            self._item(Kind.BUFFER, tensor, note="it has no values")
            return None
        held = unpacked(tensor, self.tensors)
        if self.towers and names.is_outside(tensor.name):
            self._item(Kind.TOWER, tensor)
            return None
        name = name_of(held.name, len(tensor.shape), self.file.kind)
        if name is None:
            self._item(Kind.UNEXPLAINED, tensor, note="no table has this name")
            return None
        if name.beside is not None:
            self._item(_BESIDE[name.beside], tensor)
            return None
        if name.stack == names.MTP or (name.stack in ("", "decoder.") and (name.layer or 0) >= self.depth):
            return self._further(tensor, held, name)
        known = [(rank, reading) for rank, reading in enumerate(self._here(name)) if self._has(reading)]
        if not known:
            self._item(Kind.UNEXPLAINED, tensor, note="the architecture has no such parameter")
            return None
        return _Unit(tensor, held, name.expert, tuple(reading for _, reading in known), known[0][0])

    def _here(self, name: Name) -> Iterable[Reading]:
        """The readings with full paths; ``encoder.`` and ``decoder.`` say nothing where there is one stack."""
        stack = name.stack if len(self.arch.stacks) > 1 else ""
        prefix = "" if name.layer is None else f"{stack}layers.{name.layer}."
        readings = [reading.at(prefix) for reading in name.readings]
        return [behind(reading, self.depth) for reading in readings] if self.named_by_use else readings

    def _further(self, tensor: StoredTensor, held: Unpacked, name: Name) -> _Unit | None:
        """A tensor of a layer that predicts a further token, or of one that the architecture does not have."""
        layer = name.layer or 0
        if self.arch.mtp is None:
            if name.stack == names.MTP or self._predicts(layer):
                self._item(Kind.MTP, tensor, note="the architecture states no such layers")
            else:
                self._item(Kind.UNEXPLAINED, tensor, note=f"the architecture has {self.depth} layers")
            return None
        index = layer if name.stack == names.MTP else layer - self.depth
        known = tuple(
            reading for reading in (reading.of_further(index) for reading in name.readings) if self._has(reading)
        )
        if not known:
            self._item(Kind.UNEXPLAINED, tensor, note="no such parameter in a layer that predicts further tokens")
            return None
        return _Unit(tensor, held, name.expert, known, rank=9, further=True)

    def _predicts(self, layer: int) -> bool:
        """Whether a layer behind the last one has what joins it to the embedding of the next token."""
        joins = (f"model.layers.{layer}.eh_proj.weight", f"blk.{layer}.nextn.eh_proj.weight")
        return any(name in self.tensors for name in joins)

    def _has(self, reading: Reading) -> bool:
        return all(slot in self.places for slot in reading.slots)

    # --- taking places ----------------------------------------------------------------------------

    def _place(self, unit: _Unit) -> None:
        """Puts a tensor where it fits, or says why it does not."""
        free = [
            reading
            for reading in unit.readings
            if all(self.places[slot].free(unit.expert, part=reading.part) for slot in reading.slots)
        ]
        for reading in free:
            values = self._values(unit, reading)
            if values is not None:
                self._take(unit, reading, values)
                return
        if free:
            self._take_wrongly(unit, free[0])
        else:
            self._second(unit)

    def _values(self, unit: _Unit, reading: Reading) -> int | None:
        """The values of the tensor, if they are those of the reading and lie as its matrices do."""
        places = [self.places[slot] for slot in reading.slots]
        if not all(lies(unit.held, place.wanted.shape) for place in places):
            return None
        expected = sum(place.expects(unit.expert) for place in places)
        if reading.part:
            room = expected - places[0].found
            fitting = [n for n in part_counts(unit.held, unit.tensor.shape, places[0].wanted.shape[-1]) if n <= room]
        else:
            fitting = [n for n in counts(unit.held) if n == expected]
        return fitting[0] if fitting else None

    def _take(self, unit: _Unit, reading: Reading, values: int) -> None:
        for slot in reading.slots:
            place = self.places[slot]
            place.take(unit.expert, values if reading.part else place.expects(unit.expert), part=reading.part)
        kind = Kind.MTP if unit.further else Kind.PARAMETER
        self._item(kind, unit.tensor, common(reading.slots), values)

    def _take_wrongly(self, unit: _Unit, reading: Reading) -> None:
        """The tensor of a parameter that has another size: rows of padding, or a difference."""
        if reading.slots in ((EMBED,), (HEAD,)) and self._padded(unit, reading.slots[0]):
            return
        expected = 0
        for slot in reading.slots:
            expected += self.places[slot].expects(unit.expert)
            self.places[slot].take(unit.expert, 0, differs=True)
        shapes = " + ".join(str(list(self.places[slot].wanted.shape)) for slot in reading.slots)
        each = f", {expected:,} of each expert" if unit.expert is not None else f", {expected:,} values"
        note = f"found {list(unit.tensor.shape)}, {unit.held.values:,} values; expected {shapes}{each}"
        self._item(Kind.DIFFERS, unit.tensor, common(reading.slots), unit.held.values, note=note)

    def _padded(self, unit: _Unit, slot: Slot) -> bool:
        """Splits a table with more rows than the vocabulary, where these can be padding."""
        place, tensor = self.places[slot], unit.tensor
        rows, width = place.wanted.shape
        if unit.held.shape != tensor.shape or len(tensor.shape) != 2 or tensor.shape[1] != width:
            return False
        extra = tensor.shape[0] - rows
        if not 0 < extra < MOST_PADDING or tensor.nbytes % tensor.shape[0]:
            return False
        row = tensor.nbytes // tensor.shape[0]
        place.take(None, rows * width)
        note = f"{extra} rows beyond the vocabulary of {rows:,}"
        self._item(Kind.PARAMETER, tensor, slot[0], rows * width, rows * row)
        self._item(Kind.PADDING, tensor, slot[0], extra * width, extra * row, note=note, whole=False)
        return True

    def _second(self, unit: _Unit) -> None:
        """A tensor whose parameters others have taken: a copy of a shared table, or nothing that is understood."""
        slots = unit.readings[0].slots
        path = common(slots)
        if len(slots) == 1 and path in ("embed", "lm_head") and unit.held.values == self.places[slots[0]].wanted.count:
            kind = Kind.MTP if unit.further else Kind.COPY
            self._item(kind, unit.tensor, path, unit.held.values, note=f"a copy of {path}")
        else:
            number = "" if unit.expert is None else f"; it has {self.places[slots[0]].wanted.experts} experts"
            note = f"nothing of {path} is left for it{number}"
            self._item(Kind.UNEXPLAINED, unit.tensor, note=note)

    # --- what is left -----------------------------------------------------------------------------

    def _companions(self, companions: Mapping[str, str]) -> None:
        """What belongs to another tensor goes where that went."""
        owners = {item.tensor.name: item for item in self.items}
        for name, base in companions.items():
            for _ in range(3):  # a scale of a scale of a scale is as deep as formats go
                base = companions.get(base, base)
            tensor, owner = self.tensors[name], owners.get(base)
            if owner is None or owner.kind is Kind.UNEXPLAINED:
                self._item(Kind.UNEXPLAINED, tensor, note=f"belongs to {base}, which is unexplained")
            else:
                apart = owner.kind in (Kind.MTP, Kind.TOWER, Kind.TASK)
                kind = owner.kind if apart else Kind.QUANTISATION
                self._item(kind, tensor, owner.path, note=f"of {base}")

    def _lacking(self) -> Iterator[Lacking]:
        """The parameters that have not got their values. Of further layers nothing need be there at all."""
        further = any(item.kind is Kind.MTP for item in self.items)
        for (path, name), place in self.places.items():
            each = place.wanted
            if place.found != each.count and (further or not each.further):
                yield Lacking(
                    path=path,
                    name=name,
                    shape=each.shape,
                    expected=each.count,
                    found=place.found,
                    differs=place.differs,
                    further=each.further,
                )

    def _remarks(self) -> Iterator[str]:
        if self.arch.mtp is not None and not any(item.kind is Kind.MTP for item in self.items):
            yield "the file has none of the layers that predict further tokens, which no total counts"

    def _item(
        self,
        kind: Kind,
        tensor: StoredTensor,
        path: str = "",
        values: int | None = None,
        nbytes: int | None = None,
        *,
        note: str = "",
        whole: bool = True,
    ) -> None:
        self.items.append(
            Item(
                kind=kind,
                tensor=tensor,
                values=tensor.elements if values is None else values,
                nbytes=tensor.nbytes if nbytes is None else nbytes,
                path=path,
                note=note,
                whole=whole,
            )
        )
