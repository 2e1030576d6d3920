// SPDX-License-Identifier: Apache-2.0

// Package lab starts and ends real engines and real inits for tests: each on a
// host of its own, made of namespaces of the machine's kernel.
//
//	host := lab.Open(t, lab.Docker())
//	web := host.Run(t, "web", lab.Busybox(t))
//	host.Outband(t, "enter", web.Name, …)
//
// A Host is a pid, mount, network, ipc, uts and cgroup namespace. Its root is an
// overlay of the machine's: whatever an engine installs, writes or mounts is in
// memory and goes with it. Its network is a loopback interface, so no engine can
// turn on forwarding or add a rule of the machine's. Its cgroups are below
// one of its own, in every hierarchy, with a limit of processes and of memory.
// Its first process collects orphans and starts what it is asked for; when it
// ends, the kernel ends all others. An engine finds its own default paths.
//
// Three processes take part:
//
//	test ──exec──▶ keeper ──clone──▶ init of the host ──fork──▶ engines, commands
//	  └───── a socket, commands and their descriptors ─┘
//
// The init ends when the socket does, however the test ends: by Close, a panic,
// a kill. The keeper outlives it to remove the cgroups. A killed keeper takes the
// host with it; the cgroups it leaves are removed by the next host that starts.
//
// Files: host.go, wire.go and command.go the side of the test; keeper.go and
// cgroup.go, stage.go, init.go the processes; image.go what runs in a container;
// engine.go and a file per engine what an engine has to be told; dead.go a file
// system that does not answer; tb.go the entrance for tests.
package lab
