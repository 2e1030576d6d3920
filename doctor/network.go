// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outband/outband/internal/procfs"
)

const (
	// maxTable bounds what is read of a table of sockets, bytes: those that
	// listen come first.
	maxTable = 1 << 20
	// searchTime bounds the search for those who have the sockets open.
	searchTime = 30 * time.Millisecond
)

// network reads the network namespace of the container's first process: from
// outside, by its own files of /proc.
func network(ctx context.Context, p *patient) func(*Report) {
	read := func(name string) []byte {
		b, err := p.target.Process().Dir.ReadHead("net/"+name, maxTable)
		if err != nil {
			return nil // a kernel without IPv6 lacks some
		}
		return b
	}
	dev := read("dev")
	if dev == nil {
		return func(r *Report) { r.unseen("network", "its tables cannot be read") }
	}
	n := &Network{Shared: p.shared, Interfaces: procfs.ParseInterfaces(dev)}
	n.Addresses = append(procfs.ParseAddresses(read("fib_trie")), procfs.ParseAddresses6(read("if_inet6"))...)
	for _, r := range append(procfs.ParseRoutes(read("route")), procfs.ParseRoutes6(read("ipv6_route"))...) {
		n.add(r)
	}
	for _, kind := range [...]string{"tcp", "tcp6", "udp", "udp6"} {
		n.listen(kind, procfs.ParseSockets(read(kind)))
	}
	for _, l := range procfs.ParseListeners(read("unix")) {
		n.Listening = append(n.Listening, Socket{Kind: "unix", Address: l.Path, inode: l.Inode})
	}
	if f, err := p.family(); err == nil {
		ctx, cancel := context.WithTimeout(ctx, searchTime)
		defer cancel()
		p.owners(ctx, f, n.Listening)
	}
	if n.Shared { // of the host's sockets its own are of interest
		n.Listening = slices.DeleteFunc(n.Listening, func(s Socket) bool { return s.PIDs == nil })
	}
	return func(r *Report) { r.Network = n }
}

// sameNetwork tells whether two processes are in the same network namespace.
func sameNetwork(a, b *procfs.Dir) bool {
	one, err := a.Readlink("ns/net")
	other, oerr := b.Readlink("ns/net")
	return err == nil && oerr == nil && one == other
}

// add adds a route, but for those that IPv6 has by itself.
func (n *Network) add(r procfs.Route) {
	if r.Reject && r.Interface == "lo" && r.To.Bits() == 0 || r.To.Addr().Is6() && r.To.Addr().IsLinkLocalUnicast() {
		return
	}
	route := Route{To: r.To, Interface: r.Interface, Metric: r.Metric, Reject: r.Reject}
	if r.Via.IsValid() {
		route.Via = &r.Via
	}
	n.Routes = append(n.Routes, route)
}

// listen adds the sockets that wait for whoever comes.
func (n *Network) listen(kind string, sockets []procfs.Socket) {
	for _, s := range sockets {
		if strings.HasPrefix(kind, "tcp") && s.State != procfs.Listening || s.State == procfs.Established || s.Local.Port() == 0 {
			continue
		}
		l := Socket{Kind: kind, Address: s.Local.String(), inode: s.Inode}
		if s.State == procfs.Listening {
			l.Waiting = s.Queue
		}
		n.Listening = append(n.Listening, l)
	}
}

// owners finds who has sockets open: the first of the container's processes that
// does.
func (p *patient) owners(ctx context.Context, f *family, sockets []Socket) {
	missing := map[string]*Socket{}
	for i := range sockets {
		missing["socket:["+strconv.FormatUint(sockets[i].inode, 10)+"]"] = &sockets[i]
	}
	for _, m := range f.members {
		if len(missing) == 0 || ctx.Err() != nil {
			return
		}
		p.owned(m, missing)
	}
}

// owned finds the sockets that a process has open.
func (p *patient) owned(m *procfs.Task, missing map[string]*Socket) {
	dir, err := p.target.Proc().Process(m.PID)
	if err != nil {
		return
	}
	defer dir.Close()
	fds, err := dir.Descriptors(maxDescriptors)
	if err != nil {
		return
	}
	for _, fd := range fds {
		link, err := dir.Readlink("fd/" + strconv.Itoa(fd))
		if s := missing[link]; err == nil && s != nil {
			s.PIDs, s.Comm = m.NSpid, m.Comm
			delete(missing, link)
		}
	}
}

// maxDescriptors bounds of how many descriptors of a process not many more are
// looked at.
const maxDescriptors = 4096

// routed tells whether packets to an address would leave.
func (n *Network) routed(to netip.Addr) bool {
	if slices.Contains(n.Addresses, to) || to.IsLoopback() {
		return true
	}
	best, reject := -1, true
	for _, r := range n.Routes {
		if r.To.Contains(to) && r.To.Bits() > best {
			best, reject = r.To.Bits(), r.Reject
		}
	}
	return best >= 0 && !reject
}

// alone tells whether there is no interface but the one to oneself, and those
// that the kernel makes in each namespace.
func (n *Network) alone() bool {
	return len(n.Routes) == 0 && !slices.ContainsFunc(n.Addresses, func(a netip.Addr) bool { return !a.IsLoopback() && !a.IsLinkLocalUnicast() })
}
