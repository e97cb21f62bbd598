#!/usr/bin/env bash
# Brings the compilers of the mobile clients into .mobile/ (3 GB), where they are missing, and changes nothing else:
# Kotlin's from a package of PyPI, OkHttp from one of npm, Swift and Android's org.json from Debian 13, unpacked into a
# folder of their own. That Debian is fetched from the mirror of this machine's own, or from DEBIAN_MIRROR.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=scripts/mobile
mobile=$PWD/.mobile
swift_version=6.0.3-2
json_version=10.0.0+r36-1
okhttp_package=allure-commandline@2.46.1

fetch_kotlin() {
  local folder=$mobile/kotlin work=$mobile/kotlin.new
  rm -rf "$work" && mkdir -p "$work/jars"
  echo "Fetching Kotlin and OkHttp …"
  .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --dest "$work" -r "$here/kotlin.txt"
  .venv/bin/python -m zipfile -e "$work"/kotlin_jupyter_kernel-*.whl "$work/wheel"
  npm pack --silent --pack-destination "$work" "$okhttp_package" >/dev/null
  (cd "$work" && sha256sum --quiet --check "$OLDPWD/$here/okhttp.sha256")
  tar -xzf "$work"/allure-commandline-*.tgz -C "$work" package/dist/plugins/jira-plugin/lib
  cp "$work"/wheel/run_kotlin_kernel/jars/kotlin-jupyter-kernel-*-all.jar "$work/jars/compiler.jar"
  cp "$work"/package/dist/plugins/jira-plugin/lib/ok{http,io}-jvm-*.jar "$work/jars"
  mv "$work/jars" "$folder" && rm -rf "$work"
}

debian_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep -m 1 '/debian/\?$' ||
    { echo "Where is a mirror of Debian? DEBIAN_MIRROR=http://…/debian make test-mobile" >&2; return 1; }
}

write_apt_conf() {
  local mirror
  mirror=${DEBIAN_MIRROR:-$(debian_mirror)}
  mkdir -p "$1"/{lists/partial,cache/archives/partial}
  : >"$1/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$1/sources.list"
  cat >"$1/apt.conf" <<-CONF
	Dir::Etc::sourcelist "$1/sources.list";
	Dir::Etc::sourceparts "/dev/null";
	Dir::State::lists "$1/lists";
	Dir::State::status "$1/status";
	Dir::Cache "$1/cache";
	Acquire::Languages "none";
	APT::Install-Recommends "false";
	APT::Sandbox::User "";
	CONF
}

fetch_debian() {
  local apt=$mobile/apt root=$mobile/debian.new package
  rm -rf "$apt" "$root"
  write_apt_conf "$apt"
  echo "Fetching Swift $swift_version (550 MB) …"
  APT_CONFIG=$apt/apt.conf apt-get -qq update
  APT_CONFIG=$apt/apt.conf apt-get -qq --yes --download-only install \
    "swiftlang=$swift_version" "libandroid-json-java=$json_version" libc6-dev libstdc++-14-dev
  mkdir -p "$root"/{proc,tmp,etc,usr/{bin,sbin,lib,lib64}}
  for package in bin sbin lib lib64; do ln -s "usr/$package" "$root/$package"; done
  for package in "$apt"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$root"; done
  mv "$root" "$mobile/debian" && rm -rf "$apt"
}

mkdir -p "$mobile"
command -v java >/dev/null || { echo "Java 17 or newer is needed: apt-get install default-jre-headless" >&2; exit 1; }
[ -d "$mobile/kotlin" ] || fetch_kotlin
[ -d "$mobile/debian" ] || fetch_debian
