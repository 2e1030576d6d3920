// SPDX-License-Identifier: Apache-2.0

package throwaway

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// proc is a made-up /proc with all kinds of namespaces, but for those named
// without, and with settings.
func proc(without string, settings ...string) fstest.MapFS {
	files := fstest.MapFS{}
	for _, k := range kinds {
		if k.name != without {
			files["self/ns/"+k.name] = &fstest.MapFile{}
		}
	}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		files["sys/"+name] = &fstest.MapFile{Data: []byte(value + "\n")}
	}
	return files
}

func TestExplain(t *testing.T) {
	const user = Default | unix.CLONE_NEWUSER
	for _, test := range []struct {
		name string
		err  error
		mask uintptr
		proc fstest.MapFS
		want string
	}{
		{"built without", unix.EINVAL, user, proc("user"), "without user namespaces"},
		{"built without, not asked for", unix.EINVAL, Default, proc("user"), ""},
		{"turned off", unix.ENOSPC, user, proc("", "user/max_user_namespaces=0"), "sysctl user.max_user_namespaces=0"},
		{"turned off until 4.9", unix.EUSERS, user, proc("", "user/max_user_namespaces=0"), "user.max_user_namespaces=0"},
		{"others turned off", unix.ENOSPC, user, proc("", "user/max_user_namespaces=9", "user/max_net_namespaces=0"), "user.max_net_namespaces=0"},
		{"another kind turned off", unix.ENOSPC, unix.CLONE_NEWNET, proc("", "user/max_user_namespaces=0"), ""},
		{"too deep", unix.ENOSPC, user, proc("", "user/max_user_namespaces=9"), "32 deep"},
		{"Debian's switch", unix.EPERM, user, proc("", "kernel/unprivileged_userns_clone=0"), "kernel.unprivileged_userns_clone=0"},
		{"Debian's switch is on", unix.EPERM, user, proc("", "kernel/unprivileged_userns_clone=1"), "seccomp"},
		{"AppArmor", unix.EACCES, user, proc("", "kernel/apparmor_restrict_unprivileged_userns=1"), "AppArmor"},
		{"AppArmor is no matter without", unix.EPERM, Default, proc("", "kernel/apparmor_restrict_unprivileged_userns=1"), "CAP_SYS_ADMIN"},
		{"no call", unix.ENOSYS, user, proc(""), "seccomp"},
		{"time by exec", unix.EINVAL, Default | unix.CLONE_NEWTIME, proc(""), "6.2"},
		{"wrapped", &os.PathError{Op: "x", Path: "y", Err: unix.EPERM}, user, proc(""), "seccomp"},
		{"not the machine", unix.ENOENT, user, proc(""), ""},
		{"no number", errors.New("x"), user, proc("user"), ""},
	} {
		got := explain(test.err, test.mask, test.proc)
		if !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestError(t *testing.T) {
	hinted := &Error{"web", "create namespaces", unix.EPERM, "because"}
	if got := hinted.Error(); got != "make container web: create namespaces: operation not permitted" {
		t.Errorf("got %q", got)
	}
	if !errors.Is(hinted, errors.ErrUnsupported) || !errors.Is(hinted, unix.EPERM) || hinted.Hint() != "because" {
		t.Errorf("%v is not what it wraps", hinted)
	}
	if plain := (&Error{Err: unix.ENOENT}); errors.Is(plain, errors.ErrUnsupported) {
		t.Errorf("%v blames the machine", plain)
	}
}
