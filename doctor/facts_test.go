// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
)

func TestNames(t *testing.T) {
	text := "# made by hand\nnameserver 192.0.2.1 # first\n nameserver fe80::1%eth0\n;nameserver 1.1.1.1\nnameserver\nnameserver 192.0.2.3\n" +
		"nameserver 192.0.2.4\ndomain old.example\nsearch a.example b.example\noptions ndots:5\noptions timeout:1\n"
	n := &Names{}
	n.read(forkexec.Content{Data: []byte(text)}, forkexec.Content{Data: []byte("127.0.0.1 localhost\n# 1.2.3.4 x\n::1\n\n10.0.0.2\tweb\nweb 10.0.0.3\n")})
	want := &Names{
		Servers: []string{"192.0.2.1", "fe80::1%eth0", "192.0.2.3"}, Search: []string{"a.example", "b.example"},
		Options: []string{"ndots:5", "timeout:1"}, Hosts: 2,
	}
	if !reflect.DeepEqual(n, want) {
		t.Errorf("got  %+v\nwant %+v", n, want)
	}
	for err, want := range map[error]string{
		unix.ENOENT: "there is none", unix.ENXIO: "not a regular file", unix.EFBIG: "larger than 1 MiB", unix.EIO: "input/output error",
	} {
		n := &Names{}
		if n.read(forkexec.Content{Err: err}, forkexec.Content{Err: errors.New("none")}); n.Error != want || n.Hosts != 0 {
			t.Errorf("%v: %+v", err, n)
		}
	}
}

// However long the file is, what is taken from it is bounded, and that there is
// more is told.
func TestNamesBounded(t *testing.T) {
	long := strings.Repeat("a", 1<<19)
	for text, want := range map[string][3]int{
		"search" + strings.Repeat(" a", 1<<18): {0, maxWords, 0}, strings.Repeat("options a b\n", 1<<16): {0, 0, maxWords},
		"nameserver " + long + "\nsearch " + long: {1, 1, 0}, "options " + long: {0, 0, 1},
	} {
		n := &Names{}
		n.parse(text)
		if got := [3]int{len(n.Servers), len(n.Search), len(n.Options)}; got != want || !n.More {
			t.Errorf("%.20q: %v, more: %v, want %v", text, got, n.More, want)
		}
		for _, word := range slices.Concat(n.Servers, n.Search, n.Options) {
			if len(word) > maxWord {
				t.Errorf("%.20q: %d bytes", text, len(word))
			}
		}
	}
}

// How many files are open is known where the kernel tells, and where it does not.
func TestCountFiles(t *testing.T) {
	proc, err := procfs.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	self, err := proc.Self()
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	const pipes = 100
	for range pipes {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		defer write.Close()
	}
	n, err := countFiles(self)
	fds, ferr := self.Descriptors(maxCounted)
	if n < 2*pipes || len(fds) < 2*pipes || err != nil || ferr != nil {
		t.Errorf("%d, %d, %v, %v", n, len(fds), err, ferr)
	}
}

// FuzzNames reads anything: no more than three servers, none of them empty.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"", "nameserver 1.1.1.1\nsearch a b\n", "nameserver \x00\nsearch\n", "options \x1b[2J\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := &Names{}
		n.parse(text)
		for _, s := range append(append(n.Servers, n.Search...), n.Options...) {
			if s == "" || strings.ContainsAny(s, "\n\t ") {
				t.Errorf("%q in %+v", s, n)
			}
		}
		if len(n.Servers) > 3 {
			t.Errorf("%d servers", len(n.Servers))
		}
	})
}

func TestPressure(t *testing.T) {
	for text, want := range map[string][2]float64{
		"some avg10=28.20 avg60=18.18 avg300=8.77 total=45535607\nfull avg10=1.50 avg60=0.00 avg300=0.00 total=0\n": {28.2, 1.5},
		"some avg10=100.00\n":             {100, 0},
		"some avg10=NaN\nfull avg10=-1\n": {0, 0}, "some avg10=1e9 x\n": {0, 0}, "": {0, 0}, "some\nfull avg60=1": {0, 0},
	} {
		if some, full := parsePressure(text); [2]float64{some, full} != want {
			t.Errorf("%q: %v %v", text, some, full)
		}
	}
}

func TestSyscallName(t *testing.T) {
	for line, want := range map[string]string{
		"running\n": "", "-1 0x7f 0x1\n": "", "": "", "99999 0x0\n": "system call 99999",
	} {
		if got := syscallName(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	if got := syscallName(itoa(unix.SYS_FSYNC) + " 0x3 0x0\n"); got != "fsync" {
		t.Error(got)
	}
}

// mountinfo has an overlay as root, a dead FUSE with something mounted in it, a
// file of another file system bound twice, and a mount that lies over another.
const mountinfo = `1 0 0:50 / / rw - overlay overlay rw
2 1 0:51 / /proc rw - proc proc rw
3 1 8:1 /a/hosts /etc/hosts ro - ext4 /dev/sda1 rw
4 1 8:1 /a/data /srv/data rw - ext4 /dev/sda1 rw
5 1 0:60 / /mnt rw - fuse.sshfs host: rw
6 5 0:61 / /mnt/in rw - tmpfs t rw
7 1 0:62 / /tmp rw - tmpfs t rw
8 7 0:63 / /tmp rw - tmpfs t rw
9 1 0:64 / /mntx rw - nfs4 srv:/ rw
`

func TestChoose(t *testing.T) {
	mounts := procfs.ParseMounts([]byte(mountinfo))
	var points []string
	chosen := choose(mounts)
	for _, m := range chosen {
		points = append(points, m.Point)
	}
	if want := []string{"/", "/srv/data", "/mnt", "/mnt/in", "/tmp", "/mntx"}; !reflect.DeepEqual(points, want) {
		t.Errorf("%q, want %q", points, want)
	}
	var groups [][]string
	for _, g := range spread(chosen, mounts) {
		var points []string
		for _, m := range g {
			points = append(points, m.Point)
		}
		groups = append(groups, points)
	}
	if want := [][]string{{"/", "/srv/data", "/tmp"}, {"/mnt", "/mnt/in"}, {"/mntx"}}; !reflect.DeepEqual(groups, want) {
		t.Errorf("%q, want %q", groups, want)
	}
}

// TestSpread: however many there are that may not answer, few ask.
func TestSpread(t *testing.T) {
	var mounts []procfs.Mount
	for i := range 3 * maxAskers {
		mounts = append(mounts, procfs.Mount{ID: i, Device: itoa(i), Point: "/" + itoa(i), Type: "nfs"})
	}
	groups, n := spread(mounts, mounts), 0
	for _, g := range groups {
		n += len(g)
	}
	if len(groups) != maxAskers || n != len(mounts) {
		t.Errorf("%d groups with %d mounts", len(groups), n)
	}
}

func TestRouted(t *testing.T) {
	n := &Network{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Routes: []Route{
		{To: netip.MustParsePrefix("10.0.0.0/8")}, {To: netip.MustParsePrefix("10.1.0.0/16"), Reject: true}, {To: netip.MustParsePrefix("fd00::/8")},
	}}
	for to, want := range map[string]bool{
		"10.0.0.1": true, "10.1.0.1": false, "10.0.0.2": true, "8.8.8.8": false, "127.0.0.53": true, "fd00::1": true, "2001:db8::1": false,
	} {
		if got := n.routed(netip.MustParseAddr(to)); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
}
