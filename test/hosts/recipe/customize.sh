#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes a host of a root file system that mmdebstrap has unpacked: a user, no
# service that the tests do not ask for, an initrd of nothing but what mounts
# the disk. $1 is the root, $2 the directory of the recipe, $3 the one in which
# kernel, initrd and versions are left.
set -eu
root=$1 recipe=$2 out=$3
kernel=$(ls "$root/lib/modules")
inside() { chroot "$root" "$@"; }

# A user with subordinate ids, for rootless engines.
inside useradd --create-home --shell /bin/sh --uid 1000 tester
for file in subuid subgid; do
	printf 'root:100000:65536\ntester:200000:65536\n' >"$root/etc/$file"
done
echo host >"$root/etc/hostname"
echo 127.0.0.1 localhost host >"$root/etc/hosts"
: >"$root/etc/fstab"
rm -f "$root/etc/resolv.conf"
echo nameserver 127.0.0.1 >"$root/etc/resolv.conf"
inside systemd-machine-id-setup >/dev/null 2>&1

# Nothing starts but the tests; they start the engine that they look at.
cp "$recipe/outband.service" "$recipe/outband.target" "$root/etc/systemd/system/"
rm -rf "$root"/etc/systemd/system/*.target.wants/*
ln -sf /etc/systemd/system/outband.target "$root/etc/systemd/system/default.target"
if [ -e "$root/lib/systemd/system/apparmor.service" ]; then
	mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
	ln -s /lib/systemd/system/apparmor.service "$root/etc/systemd/system/sysinit.target.wants/"
fi
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd-varlink.socket \
	systemd-udev-trigger.service systemd-udev-settle.service systemd-timesyncd.service systemd-random-seed.service \
	systemd-update-utmp.service systemd-journal-flush.service systemd-hwdb-update.service systemd-pstore.service \
	systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-journal-catalog-update.service \
	systemd-update-done.service systemd-hostnamed.socket systemd-pcrphase-sysinit.service ldconfig.service \
	dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/modules-load.d"
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\n' >"$root/etc/systemd/journald.conf.d/outband.conf"

# Engines without a network of their own.
mkdir -p "$root/etc/docker"
printf '{"bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false, "ip-masq": false, "storage-driver": "overlay2"}\n' \
	>"$root/etc/docker/daemon.json"

# The initrd.
tmp=$root/initrd.tmp
mkdir -p "$tmp/bin" "$tmp/modules" "$tmp/dev" "$tmp/proc" "$tmp/root"
cp "$root/bin/busybox" "$tmp/bin/"
cp "$recipe/init.sh" "$tmp/init"
chmod 755 "$tmp/init"
n=100
for module in virtio_pci virtio_blk virtio_console crc32c_generic crc32c_intel ext4; do
	inside modprobe -S "$kernel" --show-depends "$module" 2>/dev/null || [ "$module" != virtio_blk ]
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tmp/list"
while read -r file; do
	n=$((n + 1))
	name=$n-$(basename "$file")
	case $file in
	*.xz) inside busybox xz -dc "$file" >"$tmp/modules/${name%.xz}" ;;
	*) cp "$root$file" "$tmp/modules/$name" ;;
	esac
done <"$tmp/list"
inside sh -c 'cd /initrd.tmp && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1' >"$out/initrd"
rm -rf "$tmp"
cp "$root/boot/vmlinuz-$kernel" "$out/kernel"
rm -rf "$root"/boot/*

inside dpkg-query -W -f '${Package} ${Version}\n' >"$out/versions"
echo "linux $kernel" >>"$out/versions"
