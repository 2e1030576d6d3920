// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"encoding/binary"
	rawhex "encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// What follows parses files below /proc/PID/net (proc_pid_net(5)), which show the
// network namespace of the process. Lines that are not as the kernel writes them
// are left out.

// Route is a way that packets take.
type Route struct {
	To        netip.Prefix
	Via       netip.Addr // not valid where it is the link's
	Interface string     // raw
	Metric    uint32
	Reject    bool // packets are refused
}

// Flags of routes, see <linux/route.h> and <linux/ipv6_route.h>.
const (
	routeUp     = 0x0001
	routeReject = 0x0200
	routeLocal  = 0x80000000
)

// ParseRoutes parses /proc/PID/net/route, which has IPv4.
func ParseRoutes(b []byte) (routes []Route) {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 8 {
			continue
		}
		to, via, mask := word4(f[1]), word4(f[2]), word4(f[7])
		flags, err := strconv.ParseUint(f[3], 16, 32)
		metric, merr := strconv.ParseUint(f[6], 10, 32)
		if !to.IsValid() || !via.IsValid() || !mask.IsValid() || err != nil || merr != nil || flags&routeUp == 0 {
			continue
		}
		r := Route{To: netip.PrefixFrom(to, ones(mask)), Interface: f[0], Metric: uint32(metric), Reject: flags&routeReject != 0}
		if !via.IsUnspecified() {
			r.Via = via
		}
		routes = append(routes, r)
	}
	return routes
}

// ParseRoutes6 parses /proc/PID/net/ipv6_route: without the routes to addresses
// of one's own and to many at once.
func ParseRoutes6(b []byte) (routes []Route) {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 10 {
			continue
		}
		to, via := plain16(f[0]), plain16(f[4])
		length, err := strconv.ParseUint(f[1], 16, 8)
		metric, merr := strconv.ParseUint(f[5], 16, 32)
		flags, ferr := strconv.ParseUint(f[8], 16, 32)
		if !to.IsValid() || !via.IsValid() || err != nil || merr != nil || ferr != nil || length > 128 || flags&routeLocal != 0 || to.IsMulticast() {
			continue
		}
		r := Route{To: netip.PrefixFrom(to, int(length)), Interface: f[9], Metric: uint32(metric), Reject: flags&routeReject != 0}
		if !via.IsUnspecified() {
			r.Via = via
		}
		routes = append(routes, r)
	}
	return routes
}

// ParseInterfaces returns the names in /proc/PID/net/dev, raw.
func ParseInterfaces(b []byte) (names []string) {
	for line := range bytes.Lines(b) {
		if name, counters, ok := strings.Cut(string(line), ":"); ok && len(strings.Fields(counters)) >= 16 {
			names = append(names, strings.TrimLeft(name, " "))
		}
	}
	return names
}

// ParseAddresses returns the IPv4 addresses of one's own from
// /proc/PID/net/fib_trie.
func ParseAddresses(b []byte) (addresses []netip.Addr) {
	var last netip.Addr
	for line := range bytes.Lines(b) {
		text := strings.TrimSpace(string(line))
		if leaf, ok := strings.CutPrefix(text, "|-- "); ok {
			last, _ = netip.ParseAddr(leaf)
			continue
		}
		if text == "/32 host LOCAL" && last.IsValid() && !slices.Contains(addresses, last) {
			addresses = append(addresses, last)
		}
	}
	return addresses
}

// ParseAddresses6 returns the IPv6 addresses of one's own from
// /proc/PID/net/if_inet6.
func ParseAddresses6(b []byte) (addresses []netip.Addr) {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 6 {
			continue
		}
		if a := plain16(f[0]); a.IsValid() {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// Socket is a socket of the internet.
type Socket struct {
	Local, Remote netip.AddrPort
	State         uint8 // TCP_* of <net/tcp_states.h>
	Queue         uint32
	UID           uint32
	Inode         uint64
}

// Listening is the state of a TCP socket that waits for connections, whose Queue
// is how many wait to be accepted. A UDP socket with a peer is in Established.
const (
	Established = 1
	Listening   = 10
)

// ParseSockets parses /proc/PID/net/tcp, tcp6, udp and udp6.
func ParseSockets(b []byte) (sockets []Socket) {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 10 {
			continue
		}
		local, remote := endpoint(f[1]), endpoint(f[2])
		state, err := strconv.ParseUint(f[3], 16, 8)
		_, waiting, _ := strings.Cut(f[4], ":")
		queue, qerr := strconv.ParseUint(waiting, 16, 32)
		uid, uerr := strconv.ParseUint(f[7], 10, 32)
		inode, ierr := strconv.ParseUint(f[9], 10, 64)
		if !local.IsValid() || !remote.IsValid() || err != nil || qerr != nil || uerr != nil || ierr != nil {
			continue
		}
		sockets = append(sockets, Socket{local, remote, uint8(state), uint32(queue), uint32(uid), inode})
	}
	return sockets
}

// Listener is a socket of the file system that waits for connections.
type Listener struct {
	Path  string // raw; it starts with "@" where it is no file
	Inode uint64
}

// ParseListeners parses /proc/PID/net/unix. A path may hold line feeds, which the
// kernel writes as they are: who binds a socket can add lines of any kind.
func ParseListeners(b []byte) (listeners []Listener) {
	const accepts = 0x10000 // __SO_ACCEPTCON
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 7 {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		inode, ierr := strconv.ParseUint(f[6], 10, 64)
		if err != nil || ierr != nil || flags&accepts == 0 {
			continue
		}
		l := Listener{Inode: inode}
		if len(f) > 7 {
			path := string(line)
			for range 7 { // columns before it
				_, path, _ = strings.Cut(strings.TrimLeft(path, " "), " ")
			}
			l.Path = strings.TrimSuffix(path, "\n")
		}
		listeners = append(listeners, l)
	}
	return listeners
}

// endpoint parses an address and a port.
func endpoint(s string) netip.AddrPort {
	address, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	a := word4(address)
	if len(address) == 32 {
		a = words16(address)
	}
	if err != nil || !a.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, uint16(n))
}

// word4 parses an IPv4 address that the kernel shows as a number.
func word4(s string) netip.Addr {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) != 8 {
		return netip.Addr{}
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(n))
	return netip.AddrFrom4(b)
}

// words16 parses an IPv6 address that the kernel shows as four numbers.
func words16(s string) netip.Addr {
	var b [16]byte
	for i := range 4 {
		part := word4(s[8*i : 8*i+8])
		if !part.IsValid() {
			return netip.Addr{}
		}
		four := part.As4()
		copy(b[4*i:], four[:])
	}
	return netip.AddrFrom16(b)
}

// plain16 parses an IPv6 address as its bytes.
func plain16(s string) netip.Addr {
	var b [16]byte
	if n, err := rawhex.Decode(b[:], []byte(s[:min(len(s), 32)])); err != nil || n != 16 || len(s) != 32 {
		return netip.Addr{}
	}
	return netip.AddrFrom16(b)
}

// ones is how long the prefix is that a mask leaves.
func ones(mask netip.Addr) int {
	b := mask.As4()
	n := binary.BigEndian.Uint32(b[:])
	length := 0
	for n&(1<<31) != 0 {
		length, n = length+1, n<<1
	}
	return length
}
