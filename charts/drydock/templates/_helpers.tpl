{{/* The name of what belongs to this release. */}}
{{- define "drydock.name" -}}
{{- if contains "drydock" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-drydock" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* The coordination Lease that the controllers of this release share with no other. */}}
{{- define "drydock.election" -}}
{{ include "drydock.name" . }}-controller
{{- end }}

{{/* The Secret with the key of this release's controllers. */}}
{{- define "drydock.key" -}}
{{ include "drydock.name" . }}-key
{{- end }}

{{- define "drydock.account" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "drydock.name" .) }}
{{- else }}{{ required "serviceAccount.name: name the account that is there, or set serviceAccount.create" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "drydock.selector" -}}
app.kubernetes.io/name: drydock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "drydock.labels" -}}
app.kubernetes.io/name: drydock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "drydock.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{/* Whose Blueprints serve others without being named: those of the release's namespace always. */}}
{{- define "drydock.shared-namespaces" -}}
{{- if has "*" .Values.sharedNamespaces }}*{{ else }}{{ prepend .Values.sharedNamespaces .Release.Namespace | uniq | join "," }}{{ end }}
{{- end }}

{{/* As a list of subjects. */}}
{{- define "drydock.subjects" -}}
- {kind: ServiceAccount, name: {{ include "drydock.account" . }}, namespace: {{ .Release.Namespace }}}
{{- end }}

{{/* Whether the cluster has mutating policies, or is said to have: "true" or nothing. */}}
{{- define "drydock.mutating" -}}
{{- if eq .Values.policies.mutating "always" }}true
{{- else if and (eq .Values.policies.mutating "auto") (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy") }}true
{{- end }}
{{- end }}

{{/* matchConditions that leave out those who may. With policies.tokensOnly: a token of an account has an id; who merely impersonates
the account, which `edit` in its namespace allows, has none, and the right to claim one (userextras) comes with no role of
Kubernetes' own. That `edit` can ask for a token, too, no policy can help. */}}
{{- define "drydock.not-the-controller" -}}
- name: not-the-controller
  expression: >-
    !(request.userInfo.username in ['system:serviceaccount:{{ .Release.Namespace }}:{{ include "drydock.account" . }}'
    {{- range .Values.policies.moreControllers }}, '{{ . }}'{{ end }}]
    {{- if .Values.policies.tokensOnly }}
    && (!request.userInfo.username.startsWith('system:serviceaccount:')
    || (has(request.userInfo.extra) && 'authentication.kubernetes.io/credential-id' in request.userInfo.extra))
    {{- end }})
{{- end }}

{{- define "drydock.not-break-glass" -}}
{{- with .Values.policies.breakGlassGroup -}}
- name: not-break-glass
  expression: "!has(request.userInfo.groups) || !('{{ . }}' in request.userInfo.groups)"
{{- end }}
{{- end }}

{{/* What only templates can say of values. */}}
{{- define "drydock.check" -}}
{{- $by := dict "http-address" "http" "namespaces" "watch.namespaces" "shared-namespaces" "sharedNamespaces" "log-level" "log.level" "log-format" "log.format" }}
{{- $_ := merge $by (dict "leader-election-namespace" "" "leader-election-name" "" "key-secret" "" "key-secret-namespace" "") }}
{{- if gt (int .Values.replicas) 1 }}{{ $_ := set $by "leader-elect" "replicas" }}{{ end }}
{{- range .Values.extraArgs }}
{{- $flag := first (splitList "=" .) }}
{{- if hasKey $by (trimPrefix "--" $flag) }}
{{- $value := get $by (trimPrefix "--" $flag) }}
{{- fail (printf "extraArgs: %s is given by the chart already%s; take it out here" $flag (ternary (printf ", from the value %s" $value) "" (ne $value ""))) }}
{{- end }}
{{- end }}
{{- if and (not .Values.rbac.create) (or .Values.impersonation.clusterWide .Values.impersonation.namespaces) }}
{{- fail "impersonation: with rbac.create=false the chart gives no right; leave it out, and give the controller's account the verb impersonate by hand" }}
{{- end }}
{{- if and .Values.impersonation.clusterWide .Values.watch.namespaces }}
{{- fail "impersonation.clusterWide: with watch.namespaces the controller has no right beyond them; list namespaces in impersonation.namespaces" }}
{{- end }}
{{- range .Values.impersonation.namespaces }}
{{- if and $.Values.watch.namespaces (not (has . $.Values.watch.namespaces)) }}
{{- fail (printf "impersonation.namespaces: %s is not in watch.namespaces; add it there, or take it out here" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Pod Security "restricted", and a little more. */}}
{{- define "drydock.pod-security" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "drydock.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "drydock.test-container" -}}
image: {{ include "drydock.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env: # a name of its own for the lease of each run
- {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
resources:
  requests: {cpu: 10m, memory: 32Mi}
  limits: {memory: 128Mi}
securityContext:
  {{- include "drydock.container-security" . | nindent 2 }}
{{- end }}
