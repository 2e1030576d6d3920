// SPDX-License-Identifier: Apache-2.0

package passwd

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const table = `root:x:0:0:root:/root:/bin/bash
# daemon:x:1:1::/:/bin/sh
#commented:x:77:77::/:/bin/sh
web:x:1000:1001:,,,:/home/web:/bin/ash
web:x:0:0:a second one:/root:/bin/sh
also1000:x:1000:0:::
1000:x:0:0:a number for a name:/:/bin/sh
negative:x:-1:0::/:/bin/sh
plus:x:+1:0::/:/bin/sh
octal:x:0010:0::/:/bin/sh
nobodyis:x:4294967295:0::/:/bin/sh
large:x:4294967296:0::/:/bin/sh
hex:x:0x10:0::/:/bin/sh
blank:x: 5:0::/:/bin/sh
badgroup:x:60:-1::/:/bin/sh
short:x:61:61:/:/bin/sh
long:x:62:62::/:/bin/sh:more
nul` + "\x00" + `:x:63:63::/:/bin/sh
nulin:x:64:64::/` + "\x00" + `:/bin/sh
` + "esc\x1b[2J" + `:x:65:65::/:/bin/sh
` + "bad\xff" + `:x:66:66::/:/bin/sh
+nis:x:67:67::/:/bin/sh
+::::::
-option:x:68:68::/:/bin/sh
a b:x:69:69::/:/bin/sh
:x:70:70::/:/bin/sh
grün:x:71:71::/:/bin/sh
last:x:4294967294:4294967294::/:/bin/sh`

func TestByName(t *testing.T) {
	for name, want := range map[string]User{
		"root": {"root", 0, 0, "/root", "/bin/bash"}, "web": {"web", 1000, 1001, "/home/web", "/bin/ash"},
		"also1000": {"also1000", 1000, 0, "", ""}, "grün": {"grün", 71, 71, "/", "/bin/sh"},
		"last": {"last", 4294967294, 4294967294, "/", "/bin/sh"},
	} {
		if got, ok := ByName([]byte(table), name); !ok || got != want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"daemon", "#commented", "commented", "1000", "negative", "plus", "octal", "nobodyis", "large", "hex", "blank", "badgroup", "short", "long",
		"nul", "nul\x00", "nulin", "esc\x1b[2J", "bad\xff", "+nis", "+", "-option", "a b", "nobody", "Root", "roo", "",
	} {
		if got, ok := ByName([]byte(table), name); ok {
			t.Errorf("%q: %+v", name, got)
		}
	}
}

func TestByID(t *testing.T) {
	for uid, want := range map[uint32]string{0: "root", 1000: "web", 71: "grün", 65: "", 66: "", 67: "", 68: "", 70: ""} {
		if got, ok := ByID([]byte(table), uid); !ok || got.Name != want || got.UID != uid {
			t.Errorf("%d: %+v, %v", uid, got, ok)
		}
	}
	for _, uid := range []uint32{1, 5, 8, 10, 16, 60, 61, 62, 63, 64, 77, noID} {
		if got, ok := ByID([]byte(table), uid); ok {
			t.Errorf("%d: %+v", uid, got)
		}
	}
}

const groups = `root:x:0:
adm:x:4:web,root
adm:x:0:
docker:x:999:other,web
twice:x:999:web
wheel:x:10:web2,web
empty:x:11:,
-x:x:12:web
neg:x:-1:web
nobodyhas:x:4294967295:web
1000:x:13:web
few:x:14
#comment:x:15:web
blank:x:16: web
end:x:17:web`

func TestGroups(t *testing.T) {
	if got, want := GroupsOf([]byte(groups), "web"), []uint32{4, 999, 10, 17}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, name := range []string{"", "we", "nobody", "web2,web"} {
		if got := GroupsOf([]byte(groups), name); got != nil {
			t.Errorf("%q: %v", name, got)
		}
	}
	if g, ok := GroupByName([]byte(groups), "adm"); !ok || g.GID != 4 {
		t.Errorf("adm: %+v, %v", g, ok)
	}
	for _, name := range []string{"1000", "neg", "nobodyhas", "few", "#comment", "-x", "", "nope"} {
		if g, ok := GroupByName([]byte(groups), name); ok {
			t.Errorf("%q: %+v", name, g)
		}
	}
}

// What a hostile target writes costs no more than a look at each byte.
func TestHostile(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	for name, content := range map[string]string{
		"one line": long, "nothing but colons": strings.Repeat(":", 1<<20), "nothing but line feeds": strings.Repeat("\n", 1<<20),
		"long name": long + ":x:0:0::/:/bin/sh\n", "NULs": strings.Repeat("\x00", 1<<20),
	} {
		if u, ok := ByName([]byte(content), "root"); ok {
			t.Errorf("%s: %+v", name, u)
		}
		GroupsOf([]byte(content), "root")
	}
	if u, ok := ByName([]byte(long+"\nroot:x:0:0::/:/bin/sh\n"), "root"); !ok || u.UID != 0 {
		t.Errorf("behind a long line: %+v, %v", u, ok)
	}
	var many bytes.Buffer
	for i := range MaxGroups + 10 {
		fmt.Fprintf(&many, "g%d:x:%d:u\n", i, i)
	}
	if n := len(GroupsOf(many.Bytes(), "u")); n != MaxGroups {
		t.Errorf("%d groups", n)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"root": true, "www-data": true, "_apt": true, "a.b": true, "user$": true, "0day": true, "grün": true,
		"": false, "0": false, "1000": false, "-u": false, "+x": false, "#x": false, "a:b": false, "a,b": false, "a b": false, "a/b": false,
		"a\nb": false, "a\x00": false, "\x1b[2J": false, "a\xff": false, "a\u202e": false, "a\u200b": false, strings.Repeat("a", 257): false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestParseID(t *testing.T) {
	for _, s := range []string{"-1", "-0", "4294967295", "4294967296", "18446744073709551616", "01", "+1", " 1", "1 ", "1e3", "0x1", "1_0", "１", ""} {
		if n, ok := ParseID(s); ok {
			t.Errorf("%q is %d", s, n)
		}
	}
	for s, want := range map[string]uint32{"0": 0, "1000": 1000, "4294967294": 4294967294} {
		if n, ok := ParseID(s); !ok || n != want {
			t.Errorf("%q is %d, %v", s, n, ok)
		}
	}
}

// FuzzPasswd: whatever the tables hold, an entry that is found has the name or
// number that was asked for, stands in the table, and nobody is -1.
func FuzzPasswd(f *testing.F) {
	f.Add([]byte(table), "web", uint32(1000))
	f.Add([]byte(groups), "adm", uint32(0))
	f.Add([]byte("a:b:1:2:c:d:e"), "a", uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, name string, uid uint32) {
		if u, ok := ByName(b, name); ok {
			line := fmt.Sprintf(":%d:%d:", u.UID, u.GID)
			if u.Name != name || !ValidName(name) || u.UID == noID || u.GID == noID || !bytes.Contains(b, []byte(line)) ||
				strings.ContainsAny(u.Home+u.Shell, "\x00\n:") {
				t.Errorf("%q: %+v", name, u)
			}
		}
		if u, ok := ByID(b, uid); ok && (u.UID != uid || uid == noID || u.Name != "" && !ValidName(u.Name)) {
			t.Errorf("%d: %+v", uid, u)
		}
		if g, ok := GroupByName(b, name); ok && (g.Name != name || !ValidName(name) || g.GID == noID) {
			t.Errorf("%q: %+v", name, g)
		}
		gids := GroupsOf(b, name)
		if len(gids) > MaxGroups || slices.Contains(gids, noID) {
			t.Errorf("%q: %v", name, gids)
		}
	})
}
