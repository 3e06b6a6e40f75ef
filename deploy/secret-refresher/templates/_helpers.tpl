{{- define "refresher.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "refresher.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "refresher.labels" -}}
{{ include "refresher.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "refresher.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The refresher's file. A string of JSON is one of TOML. */}}
{{- define "refresher.config" -}}
url = {{ .Values.url | toJson }}
look = {{ .Values.look | toJson }}
{{- if .Values.ca.configMap }}
ca_file = "/etc/hythe/ca/{{ .Values.ca.key }}"
{{- end }}
{{- range .Values.secrets }}

[[secret]]
name = {{ .name | toJson }}
kind = {{ default "dockerconfigjson" .kind | toJson }}
account = {{ .account | toJson }}
key_file = "/etc/hythe/keys/{{ .key.secret }}/{{ .key.key }}"
{{- with .namespaceSelector }}
namespace_selector = {{ . | toJson }}
{{- end }}
{{- with .namespaces }}
namespaces = {{ . | toJson }}
{{- end }}
{{- with .repositories }}
repositories = {{ . | toJson }}
{{- end }}
{{- with .ttl }}
ttl = {{ . | toJson }}
{{- end }}
{{- with .serviceAccounts }}
service_accounts = {{ . | toJson }}
{{- end }}
{{- if .annotatedServiceAccounts }}
annotated_service_accounts = true
{{- end }}
{{- with .fields }}

[secret.fields]
{{- range $field, $value := . }}
{{ $field | toJson }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- end }}
{{ end -}}

{{/* What these entries need, where they are: by name where a right can be given by name. */}}
{{- define "refresher.rules" -}}
{{- $names := list }}{{ $accounts := list }}{{ $annotated := false }}
{{- range .entries }}
{{- $names = append $names .name }}
{{- $accounts = concat $accounts (default list .serviceAccounts) }}
{{- $annotated = or $annotated .annotatedServiceAccounts }}
{{- end -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ $names | uniq | sortAlpha | toJson }}
  verbs: [get, patch]
{{- if .create }}
# A right to create cannot be given by name.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
{{- if $accounts }}
- apiGroups: [""]
  resources: [serviceaccounts]
  resourceNames: {{ $accounts | uniq | sortAlpha | toJson }}
  verbs: [get, patch]
{{- end }}
{{- if $annotated }}
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [list, patch]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
