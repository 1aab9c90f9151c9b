# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The usual heads in one pass, in native code. Whatever is not usual goes to the reference, `sidecar.proxy.scan`.

A scanner here is made of one of there, and gives what that one gives. It takes a part of the grammar: a plain path for
a target, complete lines, no method that is refused. Where a head leaves that part, the reference reads it from its
beginning; so this file decides nothing alone, raises nothing, and knows no name of a field.

Memory safety rests on this: the bytes of a `bytes` object are followed by a NUL, which belongs to no class of
characters. So every loop over a class ends there at the latest, and nothing is looked at behind a byte that was not
compared with something else than NUL before.
"""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

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

cdef unsigned char CLASSES[256]
cdef bytes VERSION = b" HTTP/1."


def classify(tchar, value, segment_start, segment, query):
    """Fill the table of classes from the reference's own patterns, each of one byte."""
    cdef int number, flag
    for number in range(256):
        byte = bytes((number,))
        CLASSES[number] = 0
        for flag, pattern in enumerate((tchar, value, segment_start, segment, query)):
            if re.fullmatch(pattern, byte) is not None:
                CLASSES[number] |= 1 << flag


cdef inline const unsigned char* text(bytes data):
    return <const unsigned char*> PyBytes_AS_STRING(data)


cdef inline bytes cut(const unsigned char* start, const unsigned char* end):
    return PyBytes_FromStringAndSize(<const char*> start, end - start)


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

    cdef tuple scan(self, const unsigned char* at, const unsigned char* end):
        """(passed, read) of the lines from `at` to the empty line that ends at `end`; None: the reference is to look."""
        cdef const unsigned char* start
        cdef const unsigned char* colon
        cdef const unsigned char* kept = at
        cdef list passed = []
        cdef list read = []
        end -= 2
        while at < end:
            start = at
            while CLASSES[at[0]] & TCHAR:
                at += 1
            colon = at
            if colon == start or at[0] != b":":
                return None
            at += 1
            while CLASSES[at[0]] & VALUE:
                at += 1
            if at[0] != b"\r" or at[1] != b"\n":
                return None
            if self._first[start[0]] & self._last[(colon - 1)[0]] & <uint64> 1 << min(colon - start, LONGEST_NAME):
                if not self._follow(start, colon, at, read):
                    if start > kept:
                        passed.append(cut(kept, start))
                    kept = at + 2
            at += 2
        if at != end or at[0] != b"\r" or at[1] != b"\n":
            return None
        if not passed:
            return cut(kept, end), b"".join(read)
        passed.append(cut(kept, end))
        return b"".join(passed), b"".join(read)

    cdef bint _follow(self, const unsigned char* name, const unsigned char* colon, const unsigned char* end, list read):
        """Do what the rules say of a line; whether it passes."""
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
            return False
        read.append(key)
        if by_value:
            read.append(cut(start, end))
        read.append(b"\r\n")
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

    def scan(self, bytes head not None):
        """What the reference gives."""
        cdef const unsigned char* at = text(head)
        cdef const unsigned char* end = at + PyBytes_GET_SIZE(head)
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
            return self._reference(head)
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
                return self._reference(head)
            at += 1
        if (at[0] != b"0" and at[0] != b"1") or at[1] != b"\r" or at[2] != b"\n":
            return self._reference(head)
        fields = self._fields.scan(at + 3, end)
        if fields is None:
            return self._reference(head)
        return (
            cut(method, method_end),
            b"",
            cut(path, path_end),
            cut(path_end, query_end),
            at[0] - 48,
            fields[0],
            fields[1],
        )


cdef class ResponseScanner:
    """Responses' heads."""

    cdef object _reference
    cdef FieldScanner _fields

    def __init__(self, reference):
        self._reference = reference.scan
        self._fields = FieldScanner(reference.fields.rules, reference.names, reference.prefixes)

    def scan(self, bytes head not None):
        """What the reference gives."""
        cdef const unsigned char* start = text(head)
        cdef const unsigned char* at = start
        while CLASSES[at[0]] & VALUE:
            at += 1
        if at[0] != b"\r" or at[1] != b"\n":
            return self._reference(head)
        fields = self._fields.scan(at + 2, start + PyBytes_GET_SIZE(head))
        if fields is None:
            return self._reference(head)
        return cut(start, at + 2), fields[0], fields[1]
