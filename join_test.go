// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
	"github.com/outband/outband/ns"
)

// subsets are all sets of one kind, and of all kinds but one.
func subsets() [][]ns.Kind {
	var sets [][]ns.Kind
	for _, k := range ns.Kinds() {
		sets = append(sets, []ns.Kind{k}, slices.DeleteFunc(ns.Kinds(), func(other ns.Kind) bool { return other == k }))
	}
	return sets
}

// flags are those of clone(2) for kinds of namespaces.
func flags(kinds []ns.Kind) (mask uintptr) {
	for _, k := range kinds {
		mask |= uintptr(k.Flag())
	}
	return mask
}

func namespacesOf(t testing.TB, pid int) ns.Set {
	t.Helper()
	set, err := ns.Of(procDir(t, pid).File())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Any subset of the eight kinds is joined, and nothing else.
func TestJoinAnySubset(t *testing.T) {
	testutil.RequireKernel(t, 6, 2, "a time namespace entered by exec")
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, throwaway.Spec{Namespaces: flags(ns.Kinds()), Tree: throwaway.TreeShared})
		own, theirs := namespacesOf(t, os.Getpid()), target.Namespaces()
		if len(theirs.Differ(own)) != len(ns.Kinds()) {
			t.Fatalf("the target shares some: %v", theirs.Differ(own))
		}
		for _, only := range append(subsets(), ns.Kinds(), nil) {
			c := target.Command("sleep", "1000")
			c.Only, c.ExposeHost = only, true
			err := c.Start()
			if os.Geteuid() != 0 && only != nil && !slices.Contains(only, ns.User) {
				// All the rights there are come with the user namespace.
				if !errors.Is(err, fs.ErrPermission) || Hint(err) == "" {
					t.Errorf("%v: %v, hint %q, want fs.ErrPermission with a hint", only, err, Hint(err))
				}
				continue
			}
			if err != nil {
				t.Errorf("%v: %v", only, err)
				continue
			}
			want := own
			for _, k := range ns.Kinds() {
				if only == nil || slices.Contains(only, k) {
					want[k] = theirs[k]
				}
			}
			pids := c.Process.PIDs()
			if got := namespacesOf(t, pids[0]); got != want {
				t.Errorf("%v: other than asked for: %v", only, got.Differ(want))
			}
			if joined := only == nil || slices.Contains(only, ns.PID); joined != (len(pids) == 2) {
				t.Errorf("%v: numbers %v", only, pids)
			}
			_ = c.Process.Signal(unix.SIGKILL)
			_ = c.Wait()
		}
	})
}

// Targets that share some of their namespaces with the host.
func TestTargetsThatShare(t *testing.T) {
	testutil.RequireKernel(t, 6, 2, "a time namespace entered by exec")
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for _, kinds := range subsets() {
			t.Run(fmt.Sprint(kinds), func(t *testing.T) {
				target := enter(t, throwaway.Spec{Namespaces: flags(kinds), Tree: throwaway.TreeHost})
				plan, err := target.Command("true").Plan()
				if err != nil || len(plan.Join)+len(plan.Shared) != len(ns.Kinds()) || len(plan.Join) < len(kinds) {
					t.Errorf("joined %v, shared %v, %v", plan.Join, plan.Shared, err)
				}
				_, pid := sleeper(t, target, nil)
				if got := namespacesOf(t, pid); got != target.Namespaces() {
					t.Errorf("other than the target: %v", got.Differ(target.Namespaces()))
				}
			})
		}
	})
}

// The pid namespace may belong to the target's own user namespace, or to one
// around that.
func TestUserNamespaceOrders(t *testing.T) {
	testutil.NoLeaks(t)
	pids := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNS)
	tests := []struct {
		name string
		spec throwaway.Spec
		own  bool // the pid namespace is owned by the target's user namespace
	}{
		{"user, then pid", throwaway.Spec{Namespaces: pids, User: true, Tree: throwaway.TreeShared}, true},
		{"pid, then user", throwaway.Spec{Namespaces: pids, Tree: throwaway.TreeShared,
			Inner: []throwaway.Spec{{Namespaces: unix.CLONE_NEWUSER, Tree: throwaway.TreeHost}}}, false},
		{"user, pid, user", throwaway.Spec{Namespaces: pids, User: true, Tree: throwaway.TreeShared,
			Inner: []throwaway.Spec{{Namespaces: unix.CLONE_NEWUSER, Tree: throwaway.TreeHost}}}, false},
	}
	both(t, func(t *testing.T) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				target := hold(t, testutil.Throwaway(t, test.spec).Leaf())
				file, err := ns.OpenFile(fmt.Sprintf("/proc/%d/ns/pid", target.PID()))
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				owner, err := file.Owner()
				if err != nil {
					t.Fatal(err)
				}
				defer owner.Close()
				if id, err := owner.ID(); err != nil || (id == target.Namespaces()[ns.User]) != test.own {
					t.Fatalf("the owner is %d, %v, the target's user namespace %d", id, err, target.Namespaces()[ns.User])
				}
				_, pid := sleeper(t, target, nil)
				if got := namespacesOf(t, pid); got != target.Namespaces() {
					t.Errorf("other than the target: %v", got.Differ(target.Namespaces()))
				}
			})
		}
	})
}

// Containers in containers, as deep as the kernel allows.
func TestNestedLevels(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		for _, depth := range []int{2, 5, 31} {
			t.Run(fmt.Sprint(depth), func(t *testing.T) {
				target := hold(t, testutil.Throwaway(t, throwaway.Spec{Depth: depth}).Leaf())
				if len(target.PIDs()) != depth+1 {
					t.Fatalf("numbers %v", target.PIDs())
				}
				c, pid := sleeper(t, target, nil)
				pids := c.Process.PIDs()
				if len(pids) != depth+1 || pids[depth] == 1 || namespacesOf(t, pid) != target.Namespaces() {
					t.Errorf("numbers %v, other than the target: %v", pids, namespacesOf(t, pid).Differ(target.Namespaces()))
				}
			})
		}
	})
}

// Where init has another root than its mounts have, the command has init's.
func TestChrootedInit(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		target := enter(t, throwaway.Spec{Chroot: true})
		_, pid := sleeper(t, target, nil)
		for _, link := range []string{"root", "cwd"} {
			var init, visitor unix.Stat_t
			err := errors.Join(unix.Stat(fmt.Sprintf("/proc/%d/%s", target.PID(), link), &init), unix.Stat(fmt.Sprintf("/proc/%d/%s", pid, link), &visitor))
			if err != nil || init.Ino != visitor.Ino || init.Dev != visitor.Dev {
				t.Errorf("%s: %d, init's is %d, %v", link, visitor.Ino, init.Ino, err)
			}
		}
		if out := run(t, target.Command("pwd")); out != "/\n" {
			t.Errorf("pwd says %q", out)
		}
		for _, dir := range []string{"..", "/..", "../../../.."} {
			c := target.Command("pwd")
			c.Dir = dir
			if out := run(t, c); out != "/\n" {
				t.Errorf("%s is %q", dir, out)
			}
		}
	})
}

// A container's administrator enters the containers in it, at every level.
func TestFromInsideAContainer(t *testing.T) {
	testutil.NoLeaks(t)
	both(t, func(t *testing.T) {
		c := testutil.Throwaway(t, throwaway.Spec{Name: "web", Inner: []throwaway.Spec{{Name: "job", Inner: []throwaway.Spec{{Name: "task"}}}}})
		outer := hold(t, c)
		for at := c.Inner[0]; ; at = at.Inner[0] {
			number := hold(t, at).PIDs()[1] // as the outer container counts
			out := run(t, outer.Command("/bin/outband", "__enter", fmt.Sprint(number), "cat", "/etc/hostname", "/proc/self/status"))
			if !strings.HasPrefix(out, at.Name+"\n") || !strings.Contains(out, "\nName:\tcat\n") {
				t.Errorf("in %s: %q", at.Name, out)
			}
			if len(at.Inner) == 0 {
				break
			}
		}
		out, err := outer.Command("/bin/outband", "__enter", "1", "true").Output()
		if err == nil || !strings.Contains(string(out), ErrOwnNamespace.Error()) {
			t.Errorf("its own init: %q, %v, want ErrOwnNamespace", out, err)
		}
	})
}

// The clocks of a time namespace are the target's.
func TestTimeNamespace(t *testing.T) {
	testutil.RequireKernel(t, 6, 2, "a time namespace entered by exec")
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{Namespaces: throwaway.Default | unix.CLONE_NEWTIME, Tree: throwaway.TreeShared})
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/time", target.PID()), &st); err != nil {
		t.Fatal(err)
	}
	if out := run(t, sh(target, "stat -L -c %i /proc/self/ns/time /proc/self/ns/time_for_children")); out != fmt.Sprintf("%d\n%d\n", st.Ino, st.Ino) {
		t.Errorf("time namespaces %q, want %d", out, st.Ino)
	}
}

// A visitor that keeps the host's mounts shows them to the container wherever
// that sees the visitor: what --expose-host allows, and nothing else does.
func TestExposeHost(t *testing.T) {
	testutil.RequireRoot(t)
	testutil.NoLeaks(t)
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Not all capabilities: with them any process of the host's could be read.
	tests := []struct {
		name string
		mask uintptr
		only ns.Kind
	}{
		{"pid namespace joined", throwaway.Default, ns.PID},
		{"the host's pid namespace", throwaway.Default &^ unix.CLONE_NEWPID, ns.Net},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target := enter(t, throwaway.Spec{Namespaces: test.mask, DropCaps: 1 << unix.CAP_SYS_PTRACE})
			c := target.Command("/bin/sleep", "1000")
			c.Only = []ns.Kind{test.only}
			if err := c.Start(); !errors.Is(err, ErrBreakout) || !strings.Contains(Hint(err), "--expose-host") {
				t.Fatalf("%v, hint %q, want ErrBreakout", err, Hint(err))
			}
			c, _ = sleeper(t, target, func(c *Cmd) { c.Args[0], c.Only, c.ExposeHost = "/bin/sleep", []ns.Kind{test.only}, true })
			pids := c.Process.PIDs()
			out, err := target.Command("cat", fmt.Sprintf("/proc/%d/root%s", pids[len(pids)-1], secret)).Output()
			if string(out) != "of the host" {
				t.Errorf("the test is worth nothing: the container reads %q, %v", out, err)
			}
			_, beside := sleeper(t, target, nil)
			if namespacesOf(t, beside)[ns.Mount] != target.Namespaces()[ns.Mount] {
				t.Error("the usual visitor has other mounts than the target")
			}
		})
	}
	// Where the container does not see the visitor, there is nothing to expose.
	c := enter(t, throwaway.Spec{DropCaps: 1 << unix.CAP_SYS_PTRACE}).Command("/bin/true")
	c.Only = []ns.Kind{ns.Net}
	if err := c.Run(); err != nil {
		t.Error(err)
	}
}
