#!/bin/sh
# Makes sure that the cluster serves Drydock's kinds, and creates those of FOLDER (crds/ of this repository) where it does not.
#
#   kinds.sh FOLDER
#
# Kinds that are there are left as they are: upgrading them is for whoever installs Drydock. To look takes no rights at all; to
# create takes those to create, patch and get customresourcedefinitions.
set -eu

folder=${1:?the folder with the CRDs is needed}
# Not api-resources, which fails where any API of the cluster is out of order. A version without kinds is not found.
if ! served=$(kubectl get --raw /apis/drydock.dev/v1alpha1 2>&1); then
  case $served in *NotFound* | *"could not find the requested resource"*) served='' ;; *) echo "$served" >&2 && exit 1 ;; esac
fi
missing=''
for kind in blueprints leases resources; do
  case $served in *"\"name\":\"$kind\""*) ;; *) missing="$missing $kind" ;; esac
done
[ -n "$missing" ] || { echo "kinds: all are served"; exit; }

echo "kinds: not served:$missing"
for kind in $missing; do
  # Server-side, so that two pipelines may do it at once.
  kubectl apply --server-side -f "$folder/drydock.dev_$kind.yaml"
  kubectl wait --for=condition=Established --timeout=60s -f "$folder/drydock.dev_$kind.yaml"
done
