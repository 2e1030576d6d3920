// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/forkexec"
)

// Where a container has it, resolv.conf(5) and hosts(5).
const (
	resolvFile = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
)

// The container's own resolv.conf may be 1 MiB long: so many words of a kind are
// taken from it, and so many bytes of each, which is the longest name that DNS has.
const (
	maxWords = 32
	maxWord  = 255
)

// names reads how the container looks up names.
func names(ctx context.Context, p *patient) func(*Report) {
	contents, err := p.target.ReadFiles(ctx, resolvFile, hostsFile)
	n := &Names{}
	switch {
	case errors.Is(err, outband.ErrDeadline), errors.Is(err, context.DeadlineExceeded):
		n.Error = "filesystem not responding"
	case err != nil:
		return func(r *Report) { r.unseen("names", "%v", err) }
	default:
		n.read(contents[0], contents[1])
	}
	return func(r *Report) { r.Names = n }
}

// read takes over what the files say.
func (n *Names) read(resolv, hosts forkexec.Content) {
	switch {
	case errors.Is(resolv.Err, fs.ErrNotExist):
		n.Error = "there is none"
	case errors.Is(resolv.Err, unix.ENXIO):
		n.Error = "not a regular file"
	case errors.Is(resolv.Err, unix.EFBIG):
		n.Error = "larger than 1 MiB"
	case resolv.Err != nil:
		n.Error = resolv.Err.Error()
	}
	n.parse(string(resolv.Data))
	for line := range strings.Lines(string(hosts.Data)) {
		if f := strings.Fields(line); len(f) > 1 {
			if _, err := netip.ParseAddr(f[0]); err == nil {
				n.Hosts++
			}
		}
	}
}

// parse parses resolv.conf as the C library does: the last search or domain
// counts, and the first three servers.
func (n *Names) parse(text string) {
	const used = 3 // MAXNS
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			if len(n.Servers) < used {
				n.Servers = append(n.Servers, f[1])
			}
		case "search", "domain":
			n.Search = f[1:]
		case "options":
			n.Options = append(n.Options, f[1:]...)
		}
	}
	n.Servers, n.Search, n.Options = n.bounded(n.Servers), n.bounded(n.Search), n.bounded(n.Options)
}

// bounded keeps the beginning of a list that is too long, and of words that are.
func (n *Names) bounded(words []string) []string {
	if len(words) > maxWords {
		words, n.More = slices.Clone(words[:maxWords]), true
	}
	for i, word := range words {
		if len(word) > maxWord {
			words[i], n.More = word[:maxWord], true
		}
	}
	return words
}
