# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The usual heads in one pass, in native code. Whatever is not usual goes to the reference, `sidecar.proxy.scan`.

A scanner here is made of one of there, and gives what that one gives. It takes a part of the grammar: a plain path for
a target, a whole head of at most `LONGEST` bytes, no method that is refused. Where a head leaves that part, the
reference reads it from its beginning; so this file decides nothing alone, raises nothing, and knows no name of a field.

Memory safety rests on this: the bytes of a `bytes` object are followed by a NUL, which belongs to no class of
characters. So every loop over a class ends there at the latest, and nothing is looked at behind a byte that was not
compared with something else than NUL before. What is written goes through `put`, which knows how much room there is.
"""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

cdef extern from *:
    ctypedef unsigned long long uint64 "unsigned long long"

cdef enum:
    # Classes of characters: RFC 9110, 5.6.2 and 5.5; RFC 3986, 3.3 and 3.4, without escapes.
    TCHAR = 1
    VALUE = 2
    SEGMENT_START = 4
    SEGMENT = 8
    QUERY = 16
    LONGEST_NAME = 63  # of those that are told apart by their length
    LONGEST = 8192

cdef unsigned char CLASSES[256]
cdef bytes VERSION = b" HTTP/1."
cdef bytes LINE_END = b"\r\n"


def classify(tchar, value, segment_start, segment, query):
    """Fill the table of classes from the reference's own patterns, each of one byte."""
    cdef int number, flag
    for number in range(256):
        byte = bytes((number,))
        CLASSES[number] = 0
        for flag, pattern in enumerate((tchar, value, segment_start, segment, query)):
            if re.fullmatch(pattern, byte) is not None:
                CLASSES[number] |= 1 << flag
        if number >= 0x20 and number != 0x7f and not CLASSES[number] & VALUE:
            raise ValueError("skip_value takes what the reference refuses")


cdef struct Text:
    Py_ssize_t size
    unsigned char data[LONGEST]


cdef inline bint put(Text* text, const unsigned char* start, const unsigned char* end):
    """Append these bytes; False where there is no room for them."""
    if end - start > LONGEST - text.size:
        return False
    memcpy(text.data + text.size, start, end - start)
    text.size += end - start
    return True


cdef inline bint put_bytes(Text* text, bytes data):
    return put(text, characters(data), characters(data) + PyBytes_GET_SIZE(data))


cdef inline const unsigned char* characters(bytes data):
    return <const unsigned char*> PyBytes_AS_STRING(data)


cdef inline bytes cut(const unsigned char* start, const unsigned char* end):
    return PyBytes_FromStringAndSize(<const char*> start, end - start)


cdef inline bytes content(Text* text):
    return cut(text.data, text.data + text.size)


cdef inline const unsigned char* skip_value(const unsigned char* at, const unsigned char* end):
    """The first byte from `at` that no value has; nothing behind `end` is looked at, but the NUL there."""
    cdef uint64 word, other
    while end - at >= 8:
        memcpy(&word, at, 8)
        # Whether some byte of eight is below 0x20, or is 0x7f.
        other = word ^ <uint64> 0x7f7f7f7f7f7f7f7f
        word = (word - <uint64> 0x2020202020202020) & ~word
        if (word | (other - <uint64> 0x0101010101010101) & ~other) & <uint64> 0x8080808080808080:
            break
        at += 8
    while CLASSES[at[0]] & VALUE:
        at += 1
    return at


cdef class FieldScanner:
    """Field lines: those that pass as one piece, and what is read of the others."""

    cdef object _rules
    # By the first and by the last byte of a name: bit n says that the rules have a word on some name of n bytes.
    cdef uint64 _first[256]
    cdef uint64 _last[256]

    def __init__(self, rules, names, prefixes):
        cdef bytes name
        cdef int byte
        self._rules = rules
        for byte in range(256):
            self._first[byte] = self._last[byte] = 0
        for name in names:
            self._mark(self._first, name[:1], len(name), len(name))
            self._mark(self._last, name[len(name) - 1 :], len(name), len(name))
        for name in prefixes:
            self._mark(self._first, name[:1], len(name), LONGEST_NAME)
            self._mark(self._last, bytes(range(256)), len(name), LONGEST_NAME)

    cdef _mark(self, uint64* bits, bytes letters, int shortest, int longest):
        cdef int length
        cdef unsigned char letter
        for letter in letters.lower() + letters.upper():
            for length in range(shortest, longest + 1):
                bits[letter] |= <uint64> 1 << min(length, LONGEST_NAME)

    cdef const unsigned char* scan(
        self, const unsigned char* at, const unsigned char* end, Text* passed, Text* read
    ) except? NULL:
        """The end of the lines from `at` to the empty line; NULL: the reference is to look.

        What passes is put behind `passed`, and what is read behind `read`; no byte from `end` on is looked at.
        """
        cdef const unsigned char* start
        cdef const unsigned char* colon
        cdef const unsigned char* kept = at
        cdef int follows
        while CLASSES[at[0]] & TCHAR:
            start = at
            while CLASSES[at[0]] & TCHAR:
                at += 1
            colon = at
            if at[0] != b":":
                return NULL
            at = skip_value(at + 1, end)
            if at[0] != b"\r" or at[1] != b"\n":
                return NULL
            at += 2
            if self._first[start[0]] & self._last[(colon - 1)[0]] & <uint64> 1 << min(colon - start, LONGEST_NAME):
                follows = self._follow(start, colon, at - 2, read)
                if follows < 0:
                    return NULL
                if not follows:
                    if not put(passed, kept, start):
                        return NULL
                    kept = at
        if at[0] != b"\r" or at[1] != b"\n" or not put(passed, kept, at):
            return NULL
        return at + 2

    cdef int _follow(
        self, const unsigned char* name, const unsigned char* colon, const unsigned char* end, Text* read
    ) except -2:
        """Do what the rules say of a line: 1 where it passes, 0 where it does not, -1 without room for what is read."""
        cdef bytes key
        cdef bint passes, by_value
        cdef Py_ssize_t longest
        cdef const unsigned char* start = colon + 1
        passes, key, by_value, longest = self._rules[cut(name, colon)]
        if not key:
            return passes
        while start < end and (start[0] == b" " or start[0] == b"\t"):
            start += 1
        while end > start and ((end - 1)[0] == b" " or (end - 1)[0] == b"\t"):
            end -= 1
        if longest and not is_one_word(start, end, longest):
            return 0
        if not put_bytes(read, key) or (by_value and not put(read, start, end)) or not put_bytes(read, LINE_END):
            return -1
        return passes


cdef bint is_one_word(const unsigned char* start, const unsigned char* end, Py_ssize_t longest):
    """Whether it is visible ASCII, and of at most so many bytes."""
    if not 0 < end - start <= longest:
        return False
    while start < end:
        if not b"!" <= start[0] <= b"~":
            return False
        start += 1
    return True


cdef class RequestScanner:
    """Requests' heads."""

    cdef object _reference
    cdef FieldScanner _fields

    def __init__(self, reference):
        self._reference = reference.scan
        self._fields = FieldScanner(reference.fields.rules, reference.names, reference.prefixes)

    def scan(self, bytes data not None):
        """What the reference gives."""
        cdef const unsigned char* at = characters(data)
        cdef const unsigned char* end = at + PyBytes_GET_SIZE(data)
        cdef const unsigned char* method = at
        cdef const unsigned char* method_end
        cdef const unsigned char* path
        cdef const unsigned char* path_end
        cdef const unsigned char* query_end
        cdef unsigned char letter
        while CLASSES[at[0]] & TCHAR:
            at += 1
        # CONNECT and TRACE are the reference's affair, and whatever else begins like them.
        if at == method or at[0] != b" " or at[1] != b"/" or method[0] == b"C" or method[0] == b"T":
            return self._reference(data)
        method_end = at
        at += 1
        path = at
        while at[0] == b"/":
            at += 1
            if not CLASSES[at[0]] & SEGMENT_START:
                break
            while CLASSES[at[0]] & SEGMENT:
                at += 1
        path_end = at
        if at[0] == b"?":
            at += 1
            while CLASSES[at[0]] & QUERY:
                at += 1
        query_end = at
        for letter in VERSION:
            if at[0] != letter:
                return self._reference(data)
            at += 1
        if (at[0] != b"0" and at[0] != b"1") or at[1] != b"\r" or at[2] != b"\n":
            return self._reference(data)
        cdef Text passed, read
        passed.size = read.size = 0
        end = self._fields.scan(at + 3, end, &passed, &read)
        if end is NULL:
            return self._reference(data)
        return (
            cut(method, method_end),
            b"",
            cut(path, path_end),
            cut(path_end, query_end),
            at[0] - 48,
            content(&passed),
            content(&read),
            end - method,
        )


cdef class ResponseScanner:
    """Responses' heads."""

    cdef object _reference
    cdef FieldScanner _fields

    def __init__(self, reference):
        self._reference = reference.scan
        self._fields = FieldScanner(reference.fields.rules, reference.names, reference.prefixes)

    def scan(self, bytes data not None):
        """What the reference gives."""
        cdef const unsigned char* start = characters(data)
        cdef const unsigned char* end = start + PyBytes_GET_SIZE(data)
        cdef const unsigned char* at = skip_value(start, end)
        cdef Text passed, read
        if at[0] != b"\r" or at[1] != b"\n":
            return self._reference(data)
        passed.size = read.size = 0
        if not put(&read, start, at + 2):
            return self._reference(data)
        end = self._fields.scan(at + 2, end, &passed, &read)
        if end is NULL:
            return self._reference(data)
        return content(&passed), content(&read), end - start
