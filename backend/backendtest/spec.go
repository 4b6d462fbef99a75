package backendtest

import (
	"io"
	"strings"

	"github.com/cairn-backup/cairn/backend"
)

var (
	long     = strings.Repeat("0123456789abcdef", 15) + "-is-255-by-name"
	big      = string(noise(1, 3<<20+123))
	tooLong  = strings.Repeat("a", 256)
	alphabet = "abcdefghijklmnopqrstuvwxyz"
)

// scripts are the promises of backend.Interface, one caller at a time.
var scripts = []struct {
	name string
	ops  []op
}{
	{"NewStorageIsEmpty", []op{
		list(""),
		list("data/"),
		missing("config"),
		missing("data/ab/cd"),
	}},
	{"PutIsSeenByEveryMethod", []op{
		put("data/ab/cd", "hello"),
		get("data/ab/cd", "hello"),
		list("", "data/ab/cd"),
	}},
	{"ObjectsAreApart", []op{
		put("a", "1"), put("b", "22"), put("c/a", "333"), put("c/b", ""),
		get("a", "1"), get("b", "22"), get("c/a", "333"), get("c/b", ""),
		missing("c/c"), missing("d"),
	}},
	{"PutDoesNotReplace", []op{
		put("x", "first"),
		putErr("x", "second", backend.ErrExist),
		putErr("x", "first", backend.ErrExist),
		putErr("x", "", backend.ErrExist),
		get("x", "first"),
		list("", "x"),
	}},
	{"PutTakesTheFirstBytes", []op{
		putSize("x", alphabet, 5, nil),
		get("x", "abcde"),
		putSize("none", alphabet, 0, nil),
		get("none", ""),
	}},
	{"ShortBodyLeavesNothing", []op{
		putSize("x", alphabet, 27, io.ErrUnexpectedEOF),
		putSize("x", "", 1, io.ErrUnexpectedEOF),
		missing("x"),
		list(""),
		put("x", "whole"),
		get("x", "whole"),
	}},
	{"EmptyObject", []op{
		put("empty", ""),
		get("empty", ""),
		list("", "empty"),
		readAt("empty", 0, ""),
		readPast("empty", 0, 1),
		putErr("empty", "", backend.ErrExist),
		del("empty"),
		missing("empty"),
	}},
	{"BigObject", []op{
		put("data/big", big),
		get("data/big", big),
		readAt("data/big", 0, big[:1]),
		readAt("data/big", 1<<20-1, big[1<<20-1:2<<20+1]),
		readAt("data/big", int64(len(big)-7), big[len(big)-7:]),
		readPast("data/big", int64(len(big)-7), 8),
	}},
	{"ReadAtEdges", []op{
		put("x", alphabet),
		readAt("x", 0, alphabet),
		readAt("x", 0, ""),
		readAt("x", 0, "a"),
		readAt("x", 25, "z"),
		readAt("x", 26, ""),
		readAt("x", 3, "defg"),
		readPast("x", 0, 27),
		readPast("x", 25, 2),
		readPast("x", 26, 1),
		readPast("x", 27, 1),
		readPast("x", 1<<40, 1),
	}},
	{"DeleteAndPutAgain", []op{
		put("a/x", "1"), put("a/y", "2"),
		del("a/x"),
		missing("a/x"),
		list("", "a/y"),
		put("a/x", "other"),
		get("a/x", "other"),
		del("a/x"), del("a/y"),
		list(""),
		list("a/"),
		put("a/x", "third"),
		get("a/x", "third"),
	}},
	{"PrefixIsADirectory", []op{
		put("config", "0"),
		put("data/a/1", "1"), put("data/a/2", "2"), put("data/ab/3", "3"), put("data/ab/c/4", "4"),
		put("data-b/5", "5"), put("index/6", "6"),
		list("", "config", "data/a/1", "data/a/2", "data/ab/3", "data/ab/c/4", "data-b/5", "index/6"),
		list("data/", "data/a/1", "data/a/2", "data/ab/3", "data/ab/c/4"),
		list("data/a/", "data/a/1", "data/a/2"),
		list("data/ab/", "data/ab/3", "data/ab/c/4"),
		list("data/ab/c/", "data/ab/c/4"),
		list("dat/"),
		list("data/b/"),
		list("config/"),
		list("data/a/1/"),
	}},
	{"DirectoriesAreNoObjects", []op{
		put("data/ab/cd", "x"),
		missing("data"),
		missing("data/ab"),
		missing("data/ab/cd/ef"),
		get("data/ab/cd", "x"),
	}},
	{"EveryValidNameWorks", []op{
		put("...", "1"), put(".hidden", "2"), put("-", "3"), put("0", "4"), put(long, "5"), put("a.b-c/..d/e..", "6"),
		put("tmp/x", "7"), put("lock", "8"), put("a.tmp", "9"), put("index.lock", "10"),
		get("...", "1"), get(".hidden", "2"), get("-", "3"), get("0", "4"), get(long, "5"), get("a.b-c/..d/e..", "6"),
		get("tmp/x", "7"), get("lock", "8"), get("a.tmp", "9"), get("index.lock", "10"),
		list("", "...", ".hidden", "-", "0", long, "a.b-c/..d/e..", "tmp/x", "lock", "a.tmp", "index.lock"),
	}},
	{"InvalidNamesAreRefused", []op{
		put("a/b", "x"),
		refused(""), refused("/"), refused("."), refused(".."), refused("../a/b"), refused("a/../a/b"), refused("./a/b"),
		refused("/a/b"), refused("a//b"), refused("a/b/"), refused("A"), refused("a_b"), refused("a b"), refused("a\\b"),
		refused("a\x00"), refused("a\n"), refused("é"), refused("a:b"), refused("a*"), refused("%61"), refused(tooLong),
		refusedPrefix("a"), refusedPrefix("/"), refusedPrefix("../"), refusedPrefix("a//"), refusedPrefix("A/"),
		refusedPrefix("a/../"), refusedPrefix("./"),
		list("", "a/b"),
		get("a/b", "x"),
	}},
}
