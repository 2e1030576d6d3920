// SPDX-License-Identifier: Apache-2.0

// Command hosts runs tests on whole hosts: other kernels, systemd as first
// process, cgroup v2 alone, AppArmor, Yama, engines as their packages set them
// up.
//
//	go run ./test/hosts [-host sid,bookworm] [-pkg ./internal/cgroup] [-run REGEXP] [-user tester]
//
// A host is an image that mmdebstrap makes once, in a minute at most, and qemu
// runs without hardware support. What is tested goes in on a second drive, as test
// binaries; what go test prints comes out over a virtio port while it runs, files
// (coverage, the journal) over another one. Then the host switches itself off.
// Nothing of a run is left in the image.
//
// Without -pkg a host runs its own selection, which is what CI does with sid. The
// tests of package guest are made for these hosts: they start the engines.
//
// Files: host.go the hosts; image.go, cache.go how their images are made and
// kept; payload.go the second drive; machine.go qemu and its deadlines; results.go
// what comes out; report.go docs/hosts.md. recipe/ is what is put into a host.
package main
