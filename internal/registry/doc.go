// SPDX-License-Identifier: Apache-2.0

// Package registry keeps who outband let in: a record for each session that
// lives, and a line in an audit log for each that has ended, however it ended.
//
//	/run/outband/                 0700, root's; $XDG_RUNTIME_DIR/outband for others
//	    sessions/0fqk3v9mzt.json  0600, locked by whoever owns the session
//	    audit.jsonl               0600, one JSON object in each line
//	    audit.jsonl.1             what was before, once 16 MiB were reached
//	    frozen/5-77-4026531836.json  who froze a container, by its init's identity
//
// A record is alive as long as an open file description holds its flock(2)
// lock. The kernel drops the lock when the last owner dies, so no pid is
// compared, and a pid used again fools nobody. Sweep finishes what the dead
// left behind.
//
// # How a session ends exactly once in the log
//
// A record is a file of lines, of which the last complete one counts. Its end
// is written there first, then to the log, and then the file is removed, all
// under its lock. Whoever takes the lock of a dead session's record thus knows
// which of the steps are left: no end means that the log has none, and an end
// is looked for in the log before it is written there.
//
// Nothing is synced to disk: the directory does not outlive the machine's run,
// and the records need to survive processes, not power cuts.
//
// The package resolves nothing by string but the directory itself: all else is
// one name below a directory that it holds open, and no symbolic link is
// followed (classes A39 and A40).
package registry
