// SPDX-License-Identifier: Apache-2.0

// Package guest tests Outband on whole hosts. It starts engines as their
// packages have set them up, so it runs nowhere else than on a host that
// test/hosts has booted: make test-hosts.
package guest
