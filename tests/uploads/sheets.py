"""CUE sheets as programs and people write them, and what is to come out; the latter written by hand.

Times are in frames: 75 a second, 4500 a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Expected = Sequence[tuple[int, str, int, int | None]]
"""Number, title, first frame, frame after the last (None: the file's end)."""


@dataclass(frozen=True)
class Case:
    """A sheet as it lies on the disk, the file's name, and its parts, or words of why there are none."""

    data: bytes
    expected: Expected = ()
    name: str = "album.flac"
    refused: str = ""


def sheet(*lines: str, encoding: str = "utf-8", ends: str = "\r\n") -> bytes:
    return "".join(line + ends for line in lines).encode(encoding)


FILE = 'FILE "album.wav" WAVE'
ONE = ("  TRACK 01 AUDIO", '    TITLE "One"', "    INDEX 01 00:00:00")
TWO = ("  TRACK 02 AUDIO", '    TITLE "Two"', "    INDEX 01 05:00:00")
BOTH: Expected = [(1, "One", 0, 22_500), (2, "Two", 22_500, None)]


def titled(encoding: str, one: str, two: str) -> Case:
    """Two tracks with these titles, in an old encoding and without a mark."""
    lines = (FILE, ONE[0], f'    TITLE "{one}"', ONE[2], TWO[0], f'    TITLE "{two}"', TWO[2])
    return Case(sheet(*lines, encoding=encoding), [(1, one, 0, 22_500), (2, two, 22_500, None)])


CASES: dict[str, Case] = {
    "plain": Case(sheet('PERFORMER "A"', 'TITLE "B"', FILE, *ONE, *TWO), BOTH),
    "lower case": Case(
        sheet('file "album.wav" wave', "track 01 audio", 'title "One"', "index 01 00:00:00")
        + sheet("Track 02 Audio", 'Title "Two"', "Index 01 05:00:00"),
        BOTH,
    ),
    "line ends of Unix": Case(sheet(FILE, *ONE, *TWO, ends="\n"), BOTH),
    "line ends of old Macs": Case(sheet(FILE, *ONE, *TWO, ends="\r"), BOTH),
    "blank lines and tabs": Case(sheet("", FILE, "", *(x.replace("  ", "\t") for x in ONE), "\t", *TWO, ""), BOTH),
    "no last line end": Case(sheet(FILE, *ONE, *TWO).rstrip(), BOTH),
    "zeros at the end": Case(sheet(FILE, *ONE, *TWO) + bytes(64), BOTH),
    "UTF-8 with a mark": Case(
        sheet(FILE, ONE[0], '    TITLE "Ünë"', ONE[2], *TWO, encoding="utf-8-sig"), [(1, "Ünë", 0, 22_500), BOTH[1]]
    ),
    "UTF-8": titled("utf-8", "Mañana", "Ωmega"),
    "UTF-16, little end first, with a mark": Case(b"\xff\xfe" + sheet(FILE, *ONE, *TWO, encoding="utf-16-le"), BOTH),
    "UTF-16, big end first, with a mark": Case(b"\xfe\xff" + sheet(FILE, *ONE, *TWO, encoding="utf-16-be"), BOTH),
    "UTF-16, little end first": titled("utf-16-le", "Один", "Два"),
    "UTF-16, big end first": titled("utf-16-be", "Один", "Два"),
    "German": titled("cp1252", "Für Elise", "Mädchen und Straße"),
    "French": titled("cp1252", "Déjà vu – l’été", "Où êtes-vous"),
    "Japanese": titled("cp932", "さくら", "坂本龍一"),
    "narrow Japanese": titled("cp932", "ﾊﾞﾝﾄﾞ", "音楽"),
    "Russian": titled("cp1251", "Группа крови", "Звезда по имени Солнце"),
    "Chinese": titled("gb18030", "月亮代表我的心", "双截棍"),
    "quotes are missing": Case(
        sheet("FILE album.wav WAVE", ONE[0], "TITLE One", ONE[2], TWO[0], "TITLE Two", TWO[2]), BOTH
    ),
    "the last quote is missing": Case(
        sheet('FILE "album.wav WAVE', ONE[0], 'TITLE "One', ONE[2], TWO[0], 'TITLE Two"', TWO[2]), BOTH
    ),
    "quotes in quotes": Case(
        sheet(FILE, ONE[0], 'TITLE "The "Real" One"', ONE[2], *TWO), [(1, 'The "Real" One', 0, 22_500), BOTH[1]]
    ),
    "spaces in a title": Case(sheet(FILE, ONE[0], 'TITLE "  One  "', ONE[2], *TWO), BOTH),
    "no titles": Case(sheet(FILE, ONE[0], ONE[2], TWO[0], TWO[2]), [(1, "", 0, 22_500), (2, "", 22_500, None)]),
    "a gap belongs to the track before": Case(
        sheet(FILE, *ONE, TWO[0], TWO[1], "    INDEX 00 04:58:00", TWO[2]), BOTH
    ),
    "a gap before the first track is kept": Case(
        sheet(FILE, ONE[0], ONE[1], "INDEX 00 00:00:00", "INDEX 01 00:00:33", *TWO), BOTH
    ),
    "a hidden track before the first is kept": Case(sheet(FILE, ONE[0], ONE[1], "INDEX 01 03:00:00", *TWO), BOTH),
    "silence that is not in the file": Case(
        sheet(FILE, ONE[0], ONE[1], "PREGAP 00:02:00", ONE[2], *TWO, "POSTGAP 00:02:00"), BOTH
    ),
    "further indexes": Case(
        sheet(FILE, *ONE, "    INDEX 02 01:00:00", "    INDEX 03 02:00:00", *TWO, "    INDEX 02 06:00:00"), BOTH
    ),
    "only an INDEX 00": Case(sheet(FILE, *ONE, TWO[0], TWO[1], "    INDEX 00 05:00:00"), BOTH),
    "short numbers": Case(
        sheet(FILE, "TRACK 1 AUDIO", 'TITLE "One"', "INDEX 1 0:0:0", "TRACK 2 AUDIO", 'TITLE "Two"', "INDEX 1 5:0:0"),
        BOTH,
    ),
    "no kind of track": Case(sheet(FILE, "TRACK 01", *ONE[1:], "TRACK 02", *TWO[1:]), BOTH),
    "minutes beyond a hundred": Case(
        sheet(FILE, *ONE, TWO[0], TWO[1], "INDEX 01 123:45:67"), [(1, "One", 0, 556_942), (2, "Two", 556_942, None)]
    ),
    "single frames": Case(
        sheet(FILE, *ONE, TWO[0], TWO[1], "INDEX 01 00:00:01"), [(1, "One", 0, 1), (2, "Two", 1, None)]
    ),
    "a dot before the frames": Case(sheet(FILE, *ONE, TWO[0], TWO[1], "INDEX 01 05:00.00"), BOTH),
    "no frames": Case(sheet(FILE, *ONE, TWO[0], TWO[1], "INDEX 01 05:00"), BOTH),
    "remarks, codes and flags": Case(
        sheet(
            'REM GENRE "Rock"', "REM DATE 1999", "REM DISCID 8B0A5C0B", 'REM COMMENT "Exact Copy"', "CATALOG 0724",
            FILE, ONE[0], "FLAGS DCP PRE", "ISRC GBAYE0000351", 'SONGWRITER "S"', *ONE[1:], "REM REPLAYGAIN_TRACK_GAIN",
            *TWO, "NONSENSE", "REM",
        ),
        BOTH,
    ),
    "a data track at the end": Case(
        sheet(FILE, *ONE, *TWO, "TRACK 03 MODE1/2352", "INDEX 00 09:00:00", "INDEX 01 09:02:00"),
        [BOTH[0], (2, "Two", 22_500, 40_500)],
    ),
    "a data track at the beginning": Case(
        sheet(FILE, "TRACK 01 MODE2/2352", "INDEX 01 00:00:00", *TWO), [(2, "Two", 22_500, None)]
    ),
    "numbers that do not begin with one": Case(
        sheet(FILE, "TRACK 12 AUDIO", *ONE[1:], "TRACK 13 AUDIO", *TWO[1:]),
        [(12, "One", 0, 22_500), (13, "Two", 22_500, None)],
    ),
    "ninety-nine tracks": Case(
        sheet(FILE, *(f"TRACK {n:02} AUDIO\r\nINDEX 01 {n - 1:02}:00:00" for n in range(1, 100))),
        [*((n, "", (n - 1) * 4_500, n * 4_500) for n in range(1, 99)), (99, "", 441_000, None)],
    ),
    "another name, but a single FILE": Case(sheet(FILE, *ONE, *TWO), BOTH, name="something else.ape"),
    "no FILE at all": Case(sheet(*ONE, *TWO), BOTH),
    "a path of Windows, another format": Case(
        sheet('FILE "C:\\rips\\Side A.wav" WAVE', *ONE, 'FILE "C:\\rips\\Side B.wav" WAVE', TWO[0], TWO[1], ONE[2]),
        [(2, "Two", 0, None)],
        name="side b.flac",
    ),
    "the same FILE before each track": Case(
        sheet(FILE, *ONE, 'FILE "Album.WAV" WAVE', *TWO), BOTH, name="something else.flac"
    ),
    "a gap of a data track that begins too early": Case(
        sheet(FILE, *ONE, *TWO, "TRACK 03 MODE1/2352", "INDEX 00 04:00:00", "INDEX 01 09:02:00"),
        [BOTH[0], (2, "Two", 22_500, 40_650)],
    ),
    "two sides": Case(
        sheet(
            'FILE "Side A.wav" WAVE', *ONE, *TWO,
            'FILE "Side B.wav" WAVE', "TRACK 03 AUDIO", 'TITLE "Three"', "INDEX 01 00:00:00",
            "TRACK 04 AUDIO", 'TITLE "Four"', "INDEX 01 04:00:00",
        ),
        [(3, "Three", 0, 18_000), (4, "Four", 18_000, None)],
        name="Side B.flac",
    ),
    "gaps in the file before": Case(
        sheet(
            'FILE "01.wav" WAVE', *ONE, TWO[0], TWO[1], "INDEX 00 04:58:00",
            'FILE "02.wav" WAVE', "INDEX 01 00:00:00", "TRACK 03 AUDIO", 'TITLE "Three"', "INDEX 00 02:58:00",
            'FILE "03.wav" WAVE', "INDEX 01 00:00:00",
        ),
        [(2, "Two", 0, None)],
        name="02.wav",
    ),
    "several files, none is it": Case(
        sheet('FILE "Side A.wav" WAVE', *ONE, 'FILE "Side B.wav" WAVE', TWO[0], ONE[2]),
        refused="none is called album.flac",
    ),
    "backwards": Case(
        sheet(FILE, ONE[0], "INDEX 01 05:00:00", TWO[0], "INDEX 01 04:00:00"), refused="do not follow each other"
    ),
    "twice the same": Case(sheet(FILE, *ONE, *ONE), refused="do not follow each other"),
    "empty": Case(b"", refused="names no track"),
    "no sheet": Case(b"This is no sheet.\n" * 50, refused="names no track"),
    "random bytes": Case(bytes(range(256)) * 4, refused="names no track"),
    "a track without a time": Case(sheet(FILE, "TRACK 01 AUDIO", "INDEX 01"), refused="names no track"),
    "too long": Case(b"x" * 2**21, refused="which none has"),
}  # fmt: skip
