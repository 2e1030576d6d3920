#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What a host does: runs the test binaries of the second drive, one after the
# other, and reports. Lines that start with "== " are for the program outside.
exec </dev/null

# port is the device of the virtio port with this name.
port() {
	for p in /sys/class/virtio-ports/*; do
		[ "$(cat "$p/name")" != "$1" ] || echo "/dev/${p##*/}"
	done
}

here=/mnt
out=/tmp/outband/out
exec >"$(port outband.results)" 2>&1
mkdir -p $out
chmod 1777 $out
export PATH=$here/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root OUTBAND_HOST="$(cat $here/host)" OUTBAND_REQUIRE="$(cat $here/require)"

# root runs a command in the test service itself.
root() { "$@"; }

# tester runs it as a user's service: below that user's systemd, in a cgroup
# that is the user's.
tester() {
	systemctl start user@1000.service
	setpriv --reuid 1000 --regid 1000 --init-groups env HOME=/home/tester USER=tester XDG_RUNTIME_DIR=/run/user/1000 \
		systemd-run --user --quiet --pipe --wait --collect --property=Delegate=yes --working-directory="$PWD" \
		--setenv=PATH="$PATH" --setenv=HOME=/home/tester --setenv=GOCOVERDIR=$GOCOVERDIR \
		--setenv=OUTBAND_HOST=$OUTBAND_HOST --setenv=OUTBAND_REQUIRE=$OUTBAND_REQUIRE "$@"
}

# job runs one line of the list: user, package, directory, flags.
job() {
	user=$1 package=$2 dir=$3
	shift 3
	echo "== begin $package $user"
	# Coverage of the command: one user cannot replace the files of another.
	export GOCOVERDIR=$out/gocover-$user
	mkdir -p $GOCOVERDIR
	chmod 1777 $GOCOVERDIR
	cd "$dir" || return
	code=0
	$user ./package.test "$@" || code=$?
	echo "== end $code"
}

echo "== up $(cut -d' ' -f1 /proc/uptime) $(uname -r)"
while read -r line; do
	eval "job $line" </dev/null
done <$here/jobs
cd /
journalctl -b -o short-monotonic --no-pager >$out/journal 2>/dev/null
dmesg >$out/dmesg
tar -C $out -cf - . >"$(port outband.files)" 2>/dev/null
echo "== done"
