// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package forkexec

var elfMachine uint16 = outband_runs_on_linux_amd64_and_linux_arm64_only
