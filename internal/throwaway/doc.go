// SPDX-License-Identifier: Apache-2.0

// Package throwaway makes containers out of nothing but the running binary:
// namespaces, a tmpfs as root, and in it a copy of the binary, which is init
// and every command at once. The demo shows itself on them, and tests use them
// where no container engine is needed.
//
//	Start ──clone(namespaces)──▶ stage ──exec──▶ init (or Spec.Args)
//	  │ ──── plan (pipe) ─────────▶ │ builds the tree, starts inner
//	  │ ◀─── ready, own pidfd ───── │ containers and workers, gives
//	  │ ──── go ──────────────────▶ │ up privilege
//	  ▼ end of file: everything is set up
//
// Every stage below the first talks over the same socket, so end of file means
// that the last of them is done. "go" is sent because PR_SET_PDEATHSIG can be
// set only after the ids are changed: a stage whose creator died before that
// reads end of file instead and exits.
//
// A program that uses the package calls Main before anything else. As root a
// container needs no user namespace; without CAP_SYS_ADMIN it always gets one.
//
// Least kernel: 5.3 (pidfd_open); a time namespace needs 6.2, see Default.
//
// Files: spec.go what is wanted; plan.go the check and expansion of it, without
// system calls; start.go and launch.go the creator's side; stage.go the container's; tree.go
// files and mounts; confine.go ids and limits; init.go and applet.go what runs
// inside; errors.go why it could not be.
package throwaway
