// SPDX-License-Identifier: Apache-2.0

// Package testutil is what the tests of this module share. Only _test.go files
// import it.
//
// A package's TestMain is one call of Main, which makes test binaries safe to
// run as root and fails the run if the machine is not left as it was found. A
// test starts with what it requires, then NoLeaks, then its fixtures:
//
//	testutil.RequireRoot(t)
//	testutil.NoLeaks(t)
//	c := testutil.Throwaway(t, throwaway.Spec{Workers: …})
//
// What a test needs and does not find skips it, with the reason; with
// OUTBAND_REQUIRE=all it fails instead, so that CI cannot pass by skipping. Only
// a kernel that is too old always skips.
//
// All cgroups made here are called test-outband-PID-…, PID being the test process:
// checks take no notice of those of other test processes that are alive, since
// the tests of several packages run at once. Mounts that others make look like a
// test's doing if they last: suites that start engines run alone.
package testutil
