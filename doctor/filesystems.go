// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/outband/outband"
	"github.com/outband/outband/internal/procfs"
)

const (
	// maxAsked bounds how many file systems are asked.
	maxAsked = 256
	// maxAskers bounds how many processes ask at once.
	maxAskers = 8
)

// unbounded are file systems that hold nothing of anybody's.
func unbounded(kind string) bool {
	return slices.Contains([]string{
		"autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl",
		"hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
	}, kind)
}

// served tells whether a file system is served by a process or from elsewhere:
// such a one may never answer.
func served(kind string) bool {
	return strings.HasPrefix(kind, "fuse") || slices.Contains([]string{
		"9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
		"smb3", "smbfs", "vboxsf", "virtiofs",
	}, kind)
}

// sealed are file systems that are full and read-only from the start.
func sealed(kind string) bool {
	return slices.Contains([]string{"cramfs", "erofs", "iso9660", "romfs", "squashfs"}, kind)
}

// filesystems asks each file system of the container what it holds.
func filesystems(ctx context.Context, p *patient) func(*Report) {
	b, err := p.target.Process().Dir.ReadFile("mountinfo")
	if err != nil {
		return func(r *Report) { r.unseen("file systems", "%v", err) }
	}
	mounts := procfs.ParseMounts(b)
	chosen := choose(mounts)
	left := len(chosen) - maxAsked
	chosen = chosen[:min(len(chosen), maxAsked)]
	groups := spread(chosen, mounts)
	answers := make([][]Filesystem, len(groups))
	var wg sync.WaitGroup
	for i, group := range groups {
		wg.Go(func() { answers[i] = p.ask(ctx, group) })
	}
	wg.Wait() // each of them ends by its deadline
	return func(r *Report) {
		r.Filesystems = slices.Concat(answers...)
		slices.SortStableFunc(r.Filesystems, func(a, b Filesystem) int { return cmp.Compare(a.Point, b.Point) })
		if left > 0 {
			r.unseen("file systems", "%d more than %d are not asked", left, maxAsked)
		}
	}
}

// choose picks one mount of each file system that holds something: one that can
// be written if there is one, and the outermost of those.
func choose(mounts []procfs.Mount) (chosen []procfs.Mount) {
	type place struct {
		parent int
		point  string
	}
	covers := map[place]bool{}
	for _, m := range mounts {
		covers[place{m.Parent, m.Point}] = true
	}
	byDevice := map[string]int{}
	for _, m := range mounts {
		if unbounded(m.Type) || covers[place{m.ID, m.Point}] {
			continue
		}
		at, ok := byDevice[m.Device]
		if !ok {
			byDevice[m.Device] = len(chosen)
			chosen = append(chosen, m)
			continue
		}
		if old := chosen[at]; readOnly(old) && !readOnly(m) || readOnly(old) == readOnly(m) && len(m.Point) < len(old.Point) {
			chosen[at] = m
		}
	}
	return chosen
}

// beneath tells whether a path is another one or lies in it.
func beneath(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

func readOnly(m procfs.Mount) bool { return slices.Contains(m.Options, "ro") }

// spread spreads mounts over those who ask: a file system that may not answer
// keeps up but what lies in it.
func spread(chosen, mounts []procfs.Mount) (groups [][]procfs.Mount) {
	at := map[string]int{}
	for _, m := range chosen {
		key := ""
		for _, s := range mounts {
			if served(s.Type) && beneath(m.Point, s.Point) && (key == "" || len(s.Point) < len(key)) {
				key = s.Point
			}
		}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			if i == maxAskers {
				i--
			} else {
				groups = append(groups, nil)
			}
			at[key] = i
		}
		groups[i] = append(groups[i], m)
	}
	return groups
}

// ask asks a group of file systems, one after the other.
func (p *patient) ask(ctx context.Context, group []procfs.Mount) (list []Filesystem) {
	points := make([]string, len(group))
	for i, m := range group {
		points[i] = m.Point
	}
	contents, err := p.target.AskMounts(ctx, points...)
	for i, m := range group {
		f := Filesystem{Point: m.Point, Type: m.Type, Source: m.Source, ReadOnly: readOnly(m)}
		f.Failed = !f.ReadOnly && !sealed(m.Type) && slices.Contains(m.SuperOptions, "ro")
		f.ReadOnly = f.ReadOnly || slices.Contains(m.SuperOptions, "ro")
		switch {
		case i < len(contents):
			said, err := contents[i].Mount()
			if err == nil && said.ID != 0 && said.ID != uint64(m.ID) {
				continue // something else lies over it
			}
			f.Answers = true
			if err != nil {
				f.Error = err.Error()
				break
			}
			f.Size, f.Used = said.Blocks*said.BlockSize, (said.Blocks-min(said.Blocks, said.Available))*said.BlockSize
			f.Inodes, f.UsedInodes = said.Inodes, said.Inodes-min(said.Inodes, said.FreeInodes)
		case i == len(contents) && (errors.Is(err, outband.ErrDeadline) || errors.Is(err, context.DeadlineExceeded)):
			f.Error = "no answer in time"
		default:
			f.Answers, f.Error = true, fmt.Sprintf("not asked: %v", err)
			if errors.Is(err, outband.ErrDeadline) {
				f.Error = "not asked: " + points[len(contents)] + " does not answer"
			}
		}
		list = append(list, f)
	}
	return list
}
