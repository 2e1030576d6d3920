// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
)

// Tables of Linux 6.18 on amd64, of a machine with one interface.
const (
	sampleRoute = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT      \n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0         \n" +
		"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0           \n" +
		"*\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0           \n"
	sampleRoute6 = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n" +
		"00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n" +
		"ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
	sampleInet6 = "fd000000000000000000000000000002 04 40 00 82     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n"
	sampleTrie  = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n           |-- 127.0.0.1\n              /32 host LOCAL\n" +
		"           |-- 192.0.2.2\n              /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\n" +
		"Local:\n           |-- 127.0.0.1\n              /32 host LOCAL\n           |-- 192.0.2.2\n              /32 host LOCAL\n"
	sampleDev = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0\n" +
		"  eth0: 735066019   18727    0    0    0     0          0         0   679413    8448    0    0    0     0       0          0\n"
	sampleTCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode           \n" +
		"   0: 00000000:07E8 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 1129 1 0000000081fb2bed 100 0 0 10 0\n" +
		"   3: 020200C0:C50A 507100CB:0050 01 00000000:00000000 00:00000000 00000000    42        0 527626 1 00000000aca1f964 21 4 1 20 146\n"
	sampleTCP6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0000000000000000 100 0 0 10 0\n"
	sampleUnix = "Num       RefCount Protocol Flags    Type St Inode Path\n" +
		"00000000666ebce8: 00000003 00000000 00000000 0001 03 514792\n" +
		"00000000666ebce9: 00000002 00000000 00010000 0001 01 41 /run/a b\n" +
		"00000000666ebcea: 00000002 00000000 00010000 0005 01 42 @/org\n" +
		"00000000666ebceb: 00000002 00000000 00010000 0005 01 43\n"
)

func TestParseRoutes(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	want := []Route{
		{prefix("0.0.0.0/0"), addr("192.0.2.1"), "eth0", 100, false},
		{prefix("192.0.2.0/24"), netip.Addr{}, "eth0", 0, false},
		{prefix("10.0.0.0/8"), netip.Addr{}, "*", 0, true},
	}
	if got := ParseRoutes([]byte(sampleRoute)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	want = []Route{
		{prefix("fd00::/64"), netip.Addr{}, "eth0", 256, false},
		{prefix("::/0"), addr("fd00::1"), "eth0", 1024, false},
		{prefix("::/0"), netip.Addr{}, "lo", 1<<32 - 1, true},
	}
	if got := ParseRoutes6([]byte(sampleRoute6)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, bad := range []string{"", "eth0", "eth0\tX\t0\t3\t0\t0\t0\t0\n", strings.ReplaceAll(sampleRoute, "\t0003\t", "\t0002\t")} {
		if got := ParseRoutes([]byte(bad)); len(got) > 2 {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestParseAddresses(t *testing.T) {
	if got := fmt.Sprint(ParseAddresses([]byte(sampleTrie)), ParseAddresses6([]byte(sampleInet6)), ParseInterfaces([]byte(sampleDev))); got !=
		"[127.0.0.1 192.0.2.2] [fd00::2 ::1] [lo eth0]" {
		t.Error(got)
	}
	if got := len(ParseAddresses([]byte("/32 host LOCAL\n|-- x\n/32 host LOCAL\n"))) + len(ParseAddresses6([]byte("00 1 2 3 4 5\n"))); got != 0 {
		t.Errorf("%d addresses of nothing", got)
	}
}

func TestParseSockets(t *testing.T) {
	port := netip.MustParseAddrPort
	want := []Socket{
		{port("0.0.0.0:2024"), port("0.0.0.0:0"), Listening, 3, 1000, 1129},
		{port("192.0.2.2:50442"), port("203.0.113.80:80"), Established, 0, 42, 527626},
	}
	if got := ParseSockets([]byte(sampleTCP)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	want = []Socket{{port("[::1]:8080"), port("[::]:0"), Listening, 0, 0, 77}}
	if got := ParseSockets([]byte(sampleTCP6)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, bad := range []string{"", strings.ReplaceAll(sampleTCP, ":", ""), strings.ReplaceAll(sampleTCP, " 0A ", " 10A "), strings.ReplaceAll(sampleTCP6, "1F90", "11F90")} {
		if got := ParseSockets([]byte(bad)); len(got) > 1 || len(got) == 1 && got[0].State == Listening {
			t.Errorf("%q: %v", bad, got)
		}
	}
	if l := ParseListeners([]byte(sampleUnix)); !reflect.DeepEqual(l, []Listener{{"/run/a b", 41}, {"@/org", 42}, {"", 43}}) {
		t.Errorf("%+v", l)
	}
}

// TestNetOfSelf reads the tables of this machine, whatever they hold.
func TestNetOfSelf(t *testing.T) {
	proc, err := Open()
	if err != nil {
		t.Skip("skipped: ", err)
	}
	defer proc.Close()
	self, err := proc.Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for name, parse := range tables() {
		b, err := self.ReadHead("net/"+name, 1<<20)
		if err != nil && !strings.HasSuffix(name, "6") { // a kernel may lack IPv6
			t.Errorf("%s: %v", name, err)
		}
		// Each line but a heading is understood, where each of them counts.
		if got, lines := parse(b), strings.Count(string(b), "\n"); got < lines-1 && (name == "tcp" || name == "udp" || name == "tcp6" || name == "udp6") {
			t.Errorf("%s: %d of %d lines", name, got, lines)
		}
	}
}

// tables are the files with what parses them, which tells how much it found.
func tables() map[string]func([]byte) int {
	sockets := func(b []byte) int { return len(ParseSockets(b)) }
	return map[string]func([]byte) int{
		"route": func(b []byte) int { return len(ParseRoutes(b)) }, "ipv6_route": func(b []byte) int { return len(ParseRoutes6(b)) },
		"dev": func(b []byte) int { return len(ParseInterfaces(b)) }, "fib_trie": func(b []byte) int { return len(ParseAddresses(b)) },
		"if_inet6": func(b []byte) int { return len(ParseAddresses6(b)) }, "unix": func(b []byte) int { return len(ParseListeners(b)) },
		"tcp": sockets, "tcp6": sockets, "udp": sockets, "udp6": sockets,
	}
}

// FuzzNet has all parsers read anything: none finds more than there are lines,
// and what is found is whole.
func FuzzNet(f *testing.F) {
	for _, seed := range []string{sampleRoute, sampleRoute6, sampleInet6, sampleTrie, sampleDev, sampleTCP, sampleTCP6, sampleUnix} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		lines := strings.Count(string(b), "\n") + 1
		for name, parse := range tables() {
			if got := parse(b); got > lines {
				t.Errorf("%s: %d of %d lines", name, got, lines)
			}
		}
		for _, r := range append(ParseRoutes(b), ParseRoutes6(b)...) {
			if !r.To.IsValid() || r.Interface == "" {
				t.Errorf("%+v", r)
			}
		}
		for _, s := range ParseSockets(b) {
			if !s.Local.IsValid() || !s.Remote.IsValid() {
				t.Errorf("%+v", s)
			}
		}
	})
}

// The inode may look as the end of another column does.
func TestParseListenersInode(t *testing.T) {
	got := ParseListeners([]byte("0000000000000000: 00000002 00000000 00010000 0001 01 10000 /run/a  b\n"))
	if len(got) != 1 || got[0].Path != "/run/a  b" || got[0].Inode != 10000 {
		t.Errorf("%+v", got)
	}
}
