#!/bin/sh
# Makes a stand-in for the base image of deploy/Containerfile where no registry of images can be reached: Debian's own Python on
# Debian bookworm, under the name of the image. Needs root, debootstrap and buildah.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$folder"
rm "$folder/usr/lib/python3.11/EXTERNALLY-MANAGED" # as in the real image, pip may install for everybody
ln -s /usr/bin/python3 "$folder/usr/local/bin/python"
container=$(buildah from scratch)
buildah add --quiet "$container" "$folder"
buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/bin:/usr/sbin:/sbin "$container"
buildah commit --quiet --rm "$container" docker.io/library/python:3.11-slim-bookworm
