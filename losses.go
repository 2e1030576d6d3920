// SPDX-License-Identifier: Apache-2.0

package outband

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outband/outband/internal/confine"
	"github.com/outband/outband/internal/forkexec"
	"github.com/outband/outband/internal/procfs"
	"github.com/outband/outband/ns"
)

// losses decides what of the target's filters and label is copied, and refuses
// to leave out what cannot be, unless that is accepted. What can be copied is,
// accepted or not.
func (p *planner) losses() error {
	if p.c.Privileged {
		p.note("privileged: no filters, label or no_new_privs of the target, and all its capabilities")
		return nil
	}
	var lost []Loss
	lose := func(l Loss, what string) {
		if slices.Contains(p.c.AcceptLoss, l) {
			p.note("without the target's %s, as accepted", what)
		} else {
			lost = append(lost, l)
		}
	}
	switch {
	case p.t.state.Seccomp == 0:
	case p.mayCopyFilters():
		p.Filters = p.t.state.Filters
	default:
		lose(LossSeccomp, "system call filters")
	}
	if p.t.state.Label != p.t.ownState.Label {
		if p.label = labelToWrite(p.t.state.Label); p.label == nil || !p.initialUser() {
			p.label = nil
			lose(LossLSM, "security label")
		} else {
			p.Label = p.t.state.Label
			p.label.Optional = slices.Contains(p.c.AcceptLoss, LossLSM)
		}
	}
	if lost != nil {
		return &LossError{lost}
	}
	return nil
}

// initialUser tells whether the caller is in the machine's own user namespace.
func (p *planner) initialUser() bool { return p.t.own[ns.User] == ns.InitialUser }

// mayCopyFilters tells whether filters can be read and suspended: only from the
// machine's own user namespace, by who has no filters; and how many there are
// has to be known (5.9). Strict mode is no filter.
func (p *planner) mayCopyFilters() bool {
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE
	return p.t.state.Seccomp == confine.SeccompFilter && p.t.state.Filters > 0 &&
		p.t.ownState.Seccomp == 0 && p.initialUser() && p.t.ownStatus.CapEff&need == need
}

// labelToWrite is what a process has to write, and where, to get a label by its
// next exec; nil where that is not known.
//
// SELinux (selinux(8)) writes a context, user:role:type:range, as it is.
// AppArmor (apparmor(7)) shows the mode of a profile behind its name, which is
// not written.
func labelToWrite(label string) *forkexec.Label {
	if label == "" {
		return nil
	}
	if context := strings.Split(label, ":"); len(context) >= 4 && !strings.HasPrefix(label, ":") && !strings.Contains(label, "//&") {
		return &forkexec.Label{File: "attr/exec", Text: label}
	}
	name := label
	for _, mode := range []string{"enforce", "complain", "kill", "unconfined", "mixed", "prompt", "user"} {
		name = strings.TrimSuffix(name, " ("+mode+")")
	}
	return &forkexec.Label{File: "attr/exec", Text: "exec " + name}
}

// procForLabel is the procfs through which a command is given a label.
//
// A8 (docs/threat-model.md): it is one that nobody can have mounted anything
// over. Who may not make one may not mount either, being in the machine's own
// user namespace (losses): the caller's own serves. That it is a procfs and its
// root has been seen (procfs.Open); below it only root can have mounted anything.
// So the look at this process's own file is for accidents: the file that is
// written is the joiner's, which is not there yet.
func (t *Target) procForLabel(file string) (*procfs.FS, error) {
	proc, err := procfs.Private()
	if !errors.Is(err, fs.ErrPermission) {
		return proc, err
	}
	self, serr := t.fs.Self()
	if serr != nil {
		return nil, err
	}
	defer self.Close()
	// Not through a mount; what is not set yet reads as EINVAL.
	if _, rerr := self.ReadFile(file); rerr != nil && !errors.Is(rerr, unix.EINVAL) {
		return nil, err
	}
	return t.fs, nil
}

// lostFilters tells whether an error is that filters cannot be copied after
// all, and that is accepted.
func (c *Cmd) lostFilters(err error) bool {
	var step *forkexec.Error
	return errors.As(err, &step) && (step.Step == forkexec.StepReadFilters || step.Step == forkexec.StepTrace) &&
		!errors.Is(err, unix.ESRCH) && slices.Contains(c.AcceptLoss, LossSeccomp)
}

// lossOfFilters is a kernel, a policy or another tracer that lets nobody read
// filters or suspend them.
func lossOfFilters(_ *Cmd, e *StepError) error {
	err := fmt.Errorf("%w: %w", &LossError{[]Loss{LossSeccomp}}, e)
	if errors.Is(e, unix.EPERM) {
		err = fmt.Errorf("%w; its init may be traced by another process", err)
	}
	return err
}

// filtersChanged is an init that has added filters since it was opened.
func filtersChanged(_ *Cmd, e *StepError) error {
	return withHint(fmt.Errorf("%w: its filters have changed since it was opened", e), "try again")
}

// lossOfLabel is a label that the caller may not give, or that is none.
func lossOfLabel(_ *Cmd, e *StepError) error {
	if errors.Is(e, fs.ErrNotExist) {
		return fmt.Errorf("%w: its profile is not loaded here: %w", &LossError{[]Loss{LossLSM}}, e)
	}
	return fmt.Errorf("%w: %w", &LossError{[]Loss{LossLSM}}, e)
}
