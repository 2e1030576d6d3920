// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/engine"
	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/testutil"
	"github.com/outband/outband/internal/throwaway"
)

var sentinels = []error{ErrNotFound, ErrAmbiguous, ErrNotRunning, ErrGone, ErrNotDescendant, ErrOwnNamespace,
	ErrNotSupported, ErrBusy, ErrBreakout, ErrDeadline, ErrInvalid, ErrExec}

// is are the sentinels that an error is.
func is(err error) []error {
	return slices.DeleteFunc(slices.Clone(sentinels), func(s error) bool { return !errors.Is(err, s) })
}

// Each sentinel is itself alone, and starts without a capital or a period.
func TestSentinels(t *testing.T) {
	for _, s := range sentinels {
		if got := is(fmt.Errorf("x: %w", s)); len(got) != 1 {
			t.Errorf("%v is %v", s, got)
		}
		text := s.Error()
		if text != strings.ToLower(text) || strings.HasSuffix(text, ".") {
			t.Errorf("%q", text)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	exit := &ProcessState{forkexec.Status{Code: 3}}
	tests := []struct {
		err  error
		text string
		is   []error
		hint string
	}{
		{&StepError{"join namespaces", unix.EPERM}, "join namespaces: operation not permitted", nil, ""},
		{&UnsupportedError{"setns with a pidfd", "Linux 5.8"}, "setns with a pidfd needs Linux 5.8", []error{ErrNotSupported}, ""},
		{&UnsupportedError{Feature: "a terminal"}, "a terminal is not supported", []error{ErrNotSupported}, ""},
		{&LossError{[]Loss{LossSeccomp}}, "its confinement cannot be copied whole: seccomp", []error{ErrNotSupported}, "to enter without, say so: --accept-loss seccomp"},
		{&LossError{[]Loss{LossSeccomp, LossLSM}}, "its confinement cannot be copied whole: seccomp, lsm", []error{ErrNotSupported}, "to enter without, say so: --accept-loss seccomp,lsm"},
		{&ExitError{exit}, "exit 3", nil, ""},
		{&ExitError{&ProcessState{forkexec.Status{Code: -1, Signal: unix.SIGKILL}}}, "SIGKILL", nil, ""},
		{&ExitError{&ProcessState{forkexec.Status{Code: -1, Signal: 64}}}, "signal 64", nil, ""},
		{withHint(ErrGone, "way %d", 1), ErrGone.Error(), []error{ErrGone}, "way 1"},
		{fmt.Errorf("enter web: %w", withHint(ErrGone, "way out")), "enter web: " + ErrGone.Error(), []error{ErrGone}, "way out"},
		{fmt.Errorf("%w: %w", &LossError{[]Loss{LossCgroup}}, unix.EACCES), "its confinement cannot be copied whole: cgroup: permission denied",
			[]error{ErrNotSupported}, "to enter without, say so: --accept-loss cgroup"},
	}
	for _, test := range tests {
		if test.err.Error() != test.text || !slices.Equal(is(test.err), test.is) || Hint(test.err) != test.hint {
			t.Errorf("%q is %v, hint %q; want %q, %v, hint %q", test.err, is(test.err), Hint(test.err), test.text, test.is, test.hint)
		}
	}
	if !errors.Is(&StepError{"x", unix.EPERM}, fs.ErrPermission) {
		t.Error("a step that was not permitted is not fs.ErrPermission")
	}
	if Hint(nil) != "" || Hint(ErrGone) != "" {
		t.Error("a hint out of nothing")
	}
}

// The hint of a refusal is a line that makes it pass.
func TestHintOfLossIsTrue(t *testing.T) {
	err := &LossError{[]Loss{LossSeccomp, LossCgroup, LossLSM, LossLimits}}
	_, list, ok := strings.Cut(err.Hint(), "--accept-loss ")
	got, perr := ParseLosses(list)
	if !ok || perr != nil || !slices.Equal(got, err.Losses) {
		t.Errorf("%q is %v, %v", err.Hint(), got, perr)
	}
}

func TestParseLosses(t *testing.T) {
	tests := []struct {
		list string
		want []Loss // nil: ErrInvalid
	}{
		{"seccomp", []Loss{LossSeccomp}}, {"lsm,limits,cgroup", []Loss{LossLSM, LossLimits, LossCgroup}}, {"lsm,lsm", []Loss{LossLSM, LossLSM}},
		{"", nil}, {",", nil}, {"seccomp,", nil}, {"seccomp, lsm", nil}, {"SECCOMP", nil}, {"all", nil}, {"uid", nil}, {"\x1b[2J", nil},
	}
	for _, test := range tests {
		got, err := ParseLosses(test.list)
		if !slices.Equal(got, test.want) || (err == nil) != (test.want != nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v, want %v", test.list, got, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: a raw escape in its error", test.list)
		}
	}
}

// FuzzParseLosses: nothing but the four names is let through.
func FuzzParseLosses(f *testing.F) {
	f.Add("seccomp,lsm")
	f.Fuzz(func(t *testing.T, list string) {
		losses, err := ParseLosses(list)
		if err != nil {
			return
		}
		if again := (&LossError{losses}).list(","); again != list {
			t.Errorf("%q was read as %q", list, again)
		}
	})
}

// What a lookup says is also what this package says.
func TestEngineErrors(t *testing.T) {
	other := errors.New("other")
	tests := []struct {
		err  error
		want error
	}{
		{engine.ErrNotFound, ErrNotFound}, {engine.ErrAmbiguous, ErrAmbiguous}, {engine.ErrInvalid, ErrInvalid},
		{engine.ErrNotDescendant, ErrNotDescendant}, {engine.ErrDeadline, ErrDeadline}, {fs.ErrNotExist, ErrNotFound}, {other, other}, {context.Canceled, context.Canceled},
	}
	for _, test := range tests {
		err := fmt.Errorf("container web: %w", test.err)
		got := engineError(err)
		if !errors.Is(got, test.want) || !errors.Is(got, test.err) || got.Error() != err.Error() {
			t.Errorf("%v became %v, want %v", err, got, test.want)
		}
	}
}

// What a step's error number means is told by the step: the same number means
// something else elsewhere.
func TestExplain(t *testing.T) {
	testutil.NoLeaks(t)
	target := enter(t, throwaway.Spec{})
	c := target.Command("ps")
	c.Dir = "/srv"
	tests := []struct {
		step  forkexec.Step
		errno unix.Errno
		is    []error
		text  string
		hint  string // part of it
	}{
		{forkexec.StepJoin, unix.ESRCH, []error{ErrGone}, "going away", ""},
		{forkexec.StepJoin, unix.EINVAL, []error{ErrNotDescendant}, "join namespaces", ""},
		{forkexec.StepJoin, unix.EPERM, nil, "join namespaces: operation not permitted", "as root"},
		{forkexec.StepForkCommand, unix.ENOMEM, []error{ErrGone}, "going away", ""},
		{forkexec.StepForkCommand, unix.EAGAIN, nil, "pid limit", "--cgroup none"},
		{forkexec.StepForkCommand, unix.EPERM, nil, "fork into the container: operation not permitted", ""},
		{forkexec.StepForkShepherd, unix.EAGAIN, nil, "pid limit", "--cgroup none"},
		{forkexec.StepForkShepherd, unix.ENOMEM, []error{ErrGone}, "going away", ""},
		{forkexec.StepForkJoiner, unix.EAGAIN, nil, "pid limit", "--cgroup none"},
		{forkexec.StepForkJoiner, unix.ENOMEM, nil, "cannot allocate memory", ""},
		{forkexec.StepCgroup, unix.EACCES, []error{ErrNotSupported}, "confinement", "--accept-loss cgroup"},
		{forkexec.StepCgroup, unix.ENODEV, nil, "join cgroup", ""},
		{forkexec.StepDirectory, unix.EXDEV, []error{ErrBreakout}, `"/srv"`, ""},
		{forkexec.StepDirectory, unix.ENOENT, nil, `working directory "/srv": no such file`, ""},
		{forkexec.StepUser, unix.EPERM, nil, "set user: operation not permitted", ""},
		{forkexec.StepExec, unix.ENOENT, []error{ErrExec}, `"ps"`, "/root"},
		{forkexec.StepExec, unix.ENOEXEC, []error{ErrExec}, `"ps"`, "architecture"},
		{forkexec.StepExec, unix.EACCES, []error{ErrExec}, `"ps"`, ""},
	}
	for _, test := range tests {
		err := c.explain(&forkexec.Error{Step: test.step, Err: test.errno})
		if !slices.Equal(is(err), test.is) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%v, %v: %v is %v, want %v with %q", test.step, test.errno, err, is(err), test.is, test.text)
		}
		if (test.hint == "") != (Hint(err) == "") || !strings.Contains(Hint(err), test.hint) {
			t.Errorf("%v, %v: hint %q, want %q", test.step, test.errno, Hint(err), test.hint)
		}
		if !errors.Is(err, ErrGone) && !errors.Is(err, ErrBreakout) && !errors.Is(err, test.errno) {
			t.Errorf("%v, %v: %v has lost the number", test.step, test.errno, err)
		}
	}
	if err := c.explain(forkexec.ErrDeadline); !errors.Is(err, ErrDeadline) {
		t.Errorf("%v, want ErrDeadline", err)
	}
	if err := c.explain(forkexec.ErrKilled); !errors.Is(err, forkexec.ErrKilled) || !strings.Contains(Hint(err), "memory") {
		t.Errorf("killed: %v, hint %q", err, Hint(err))
	}
	other := errors.New("other")
	if err := c.explain(other); !errors.Is(err, other) {
		t.Errorf("%v, want %v", err, other)
	}
}
