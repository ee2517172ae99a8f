#!/bin/sh
# Makes a root file system of Debian packages that are installed on this machine, and of what they need:
# `rootfs.sh DIRECTORY PACKAGE...`. A shell and its usual tools are always there. No network, no root.
set -eu
root=$1
shift
mkdir -p "$root/tmp" "$root/root" "$root/etc" "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/usr/sbin"
for directory in bin sbin lib lib64; do
	[ -e "$root/$directory" ] || ln -s "usr/$directory" "$root/$directory"
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
packages=$(apt-cache depends --installed --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
	--no-replaces --no-enhances dash coreutils grep "$@" | grep '^[a-z0-9]' | sort -u)
for package in $packages; do
	dpkg -L "$package" 2>/dev/null || true
done | sort -u | while read -r file; do
	case $file in
	/usr/share/doc/* | /usr/share/man/* | /usr/share/locale/* | /usr/share/info/*) continue ;;
	esac
	if [ -h "$file" ] || [ -f "$file" ]; then
		echo "$file"
	fi
done | tar --create --files-from=- --no-recursion --absolute-names 2>/dev/null |
	tar --extract --directory "$root" --keep-directory-symlink --no-same-owner 2>/dev/null
