"""Drives libquire.so from Python through ctypes, and by the table that quire_api answers.

Run with LIBQUIRE set to the path of the library, and QUIRE_PAGER_PATH to the folder of the plugins.
"""

import ctypes as c
import errno
import os
import tempfile
import unittest

PAGE = 4096
READ, WRITE = 1, 2
ADVICE_RANDOM = 1
MACHINE_SOFT, MACHINE_LINUX = 1, 2
OK, ERR_INVALID, ERR_HANDLE, ERR_PAGER, ERR_IN_USE = 0, -1, -2, -8, -11
FAULT_MAPERR, FAULT_OBJERR = -64, -66

lib = c.CDLL(os.environ["LIBQUIRE"])
handle, u32, u64 = c.c_void_p, c.c_uint32, c.c_uint64


class Options(c.Structure):
    _fields_ = [
        ("struct_size", u32), ("machine", u32), ("memory", u64), ("reserve", u64), ("flags", u32), ("kept_objects", u32),
    ]


class MapRequest(c.Structure):
    _fields_ = [
        ("struct_size", u32), ("flags", u32), ("addr", u64), ("length", u64), ("offset", u64), ("align", u64),
        ("prot", u32), ("max_prot", u32), ("inherit", u32), ("advice", u32),
    ]


class Stats(c.Structure):
    # The first members only: the library writes no more than struct_size tells.
    _fields_ = [("struct_size", u32), ("reserved", u32), ("faults", u64), ("faults_2a_read", u64), ("faults_2a_write", u64)]


for name, arguments in {
    "linux_supported": [],
    "engine_create": [handle, c.POINTER(handle)],
    "engine_destroy": [handle, u32],
    "engine_stats": [handle, c.POINTER(Stats)],
    "pager_load": [handle, c.c_char_p, c.c_char_p, c.POINTER(handle)],
    "object_open": [handle, c.c_char_p, c.c_int32, u32, c.POINTER(handle)],
    "object_release": [handle],
    "object_size": [handle, c.POINTER(u64)],
    "object_flush": [handle, u64, u64, u32],
    "map_create": [handle, u64, u64, c.POINTER(handle)],
    "map_destroy": [handle],
    "map": [handle, handle, c.POINTER(MapRequest), c.POINTER(u64)],
    "advise": [handle, u64, u64, u32],
    "load": [handle, u64, c.c_void_p, c.c_size_t, c.POINTER(c.c_size_t)],
    "store": [handle, u64, c.c_void_p, c.c_size_t, c.POINTER(c.c_size_t)],
}.items():
    function = getattr(lib, "quire_" + name)
    function.argtypes, function.restype = arguments, c.c_int32
lib.quire_last_error.restype = lib.quire_version.restype = c.c_char_p
lib.quire_api.argtypes, lib.quire_api.restype = [u32], c.c_void_p


def last_error():
    return lib.quire_last_error().decode()


class QuireTest(unittest.TestCase):
    # Whose faults are counted when a load returns; on a machine with real pointers others may still be at it.
    machine = MACHINE_SOFT

    def setUp(self):
        self.file = tempfile.NamedTemporaryFile()
        self.bytes = bytes(i % 251 for i in range(10 * PAGE + 123))
        self.file.write(self.bytes)
        self.file.flush()
        options = Options(struct_size=c.sizeof(Options), machine=self.machine)
        self.engine, self.pager, self.object, self.map, self.addr = handle(), handle(), handle(), handle(), u64()
        self.ok(lib.quire_engine_create(c.byref(options), self.engine))
        self.ok(lib.quire_pager_load(self.engine, b"vnode", None, self.pager))
        self.ok(lib.quire_object_open(self.pager, self.file.name.encode(), -1, READ | WRITE, self.object))
        self.ok(lib.quire_map_create(self.engine, 0, 0, self.map))
        request = MapRequest(struct_size=c.sizeof(MapRequest), length=len(self.bytes), prot=READ | WRITE)
        self.ok(lib.quire_map(self.map, self.object, request, self.addr))

    def tearDown(self):
        self.ok(lib.quire_map_destroy(self.map))
        self.ok(lib.quire_object_release(self.object))
        self.ok(lib.quire_engine_destroy(self.engine, 0))
        self.file.close()

    def ok(self, status):
        self.assertEqual(status, OK, last_error())

    def test_every_byte_comes_in_through_faults(self):
        self.assertLess(self.faults_of_a_load_of_everything(), 11)

    def test_without_a_pattern_every_page_is_a_fault(self):
        self.ok(lib.quire_advise(self.map, self.addr, len(self.bytes), ADVICE_RANDOM))
        self.assertEqual(self.faults_of_a_load_of_everything(), 11)

    def faults_of_a_load_of_everything(self):
        loaded = c.create_string_buffer(len(self.bytes))
        self.ok(lib.quire_load(self.map, self.addr, loaded, len(self.bytes), None))
        self.assertEqual(loaded.raw, self.bytes)
        stats = Stats(struct_size=c.sizeof(Stats))
        self.ok(lib.quire_engine_stats(self.engine, stats))
        self.assertEqual((stats.faults_2a_read, stats.faults_2a_write), (stats.faults, 0))
        return stats.faults

    def test_what_is_stored_reaches_the_file(self):
        self.ok(lib.quire_store(self.map, self.addr.value + PAGE - 2, b"snake", 5, None))
        self.ok(lib.quire_object_flush(self.object, 0, 0, 1))
        with open(self.file.name, "rb") as file:
            written = file.read()
        self.assertEqual(written, self.bytes[: PAGE - 2] + b"snake" + self.bytes[PAGE + 3 :])

    def test_errors_come_with_a_sentence(self):
        byte, other, size = c.create_string_buffer(1), handle(), u64(7)
        self.assertEqual(lib.quire_load(self.map, 0, byte, 1, None), FAULT_MAPERR)
        self.assertIn("nothing is mapped at 0x0", last_error())
        self.assertEqual(lib.quire_object_open(self.pager, b"/no/such", -1, READ, other), ERR_PAGER)
        self.assertIn("/no/such", last_error())
        self.assertEqual(lib.quire_last_errno(), errno.ENOENT)
        self.assertEqual(lib.quire_map(self.map, self.object, None, self.addr), ERR_INVALID)
        self.assertEqual(lib.quire_engine_destroy(self.engine, 0), ERR_IN_USE)
        self.assertIn("map", last_error())
        self.assertEqual((other.value, size.value), (None, 7))

    def test_a_wrong_handle_is_an_error_and_no_crash(self):
        size = u64()
        for wrong in (None, self.map, self.engine, 1, 0xDEADBEEF, 2**64 - 1, c.addressof(size)):
            self.assertEqual(lib.quire_object_size(wrong, size), ERR_HANDLE, wrong)

    def test_a_truncated_file_is_an_error_and_no_crash(self):
        os.truncate(self.file.name, PAGE)
        byte = c.create_string_buffer(1)
        self.assertEqual(lib.quire_load(self.map, self.addr.value + 5 * PAGE, byte, 1, None), FAULT_OBJERR)
        self.ok(lib.quire_load(self.map, self.addr, byte, 1, None))
        self.assertEqual(byte.raw, self.bytes[:1])

    def test_the_table_begins_with_its_size_and_version(self):
        table = c.cast(lib.quire_api(1), c.POINTER(u32))
        self.assertGreater(table[0], 8 + 30 * c.sizeof(c.c_void_p))
        self.assertEqual(table[1], 1)
        version = c.cast(lib.quire_api(1) + 8, c.POINTER(c.CFUNCTYPE(c.c_char_p)))[0]
        self.assertEqual(version(), lib.quire_version())
        self.assertIsNone(lib.quire_api(2))


@unittest.skipIf(lib.quire_linux_supported() != OK, last_error())
class PointerTest(QuireTest):
    """The same on real memory, and what only a pointer can do."""

    machine = MACHINE_LINUX

    def faults_of_a_load_of_everything(self):
        loaded = c.create_string_buffer(len(self.bytes))
        self.ok(lib.quire_load(self.map, self.addr, loaded, len(self.bytes), None))
        self.assertEqual(loaded.raw, self.bytes)
        stats = Stats(struct_size=c.sizeof(Stats))
        self.ok(lib.quire_engine_stats(self.engine, stats))
        return stats.faults

    def test_the_address_is_a_pointer(self):
        self.assertEqual(c.string_at(self.addr.value, len(self.bytes)), self.bytes)
        c.memmove(self.addr.value + PAGE - 2, b"snake", 5)
        self.ok(lib.quire_object_flush(self.object, 0, 0, 1))
        with open(self.file.name, "rb") as file:
            self.assertEqual(file.read()[PAGE - 2 : PAGE + 3], b"snake")


if __name__ == "__main__":
    unittest.main()
