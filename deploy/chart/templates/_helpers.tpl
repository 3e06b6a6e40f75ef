{{- define "hythe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "hythe.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hythe.labels" -}}
{{ include "hythe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "hythe.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "hythe.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "hythe.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* A value in TOML, tables inline. Numbers of values are floats to Helm, and whole ones are written as such. */}}
{{- define "hythe.value" -}}
{{- if kindIs "map" . -}}
{ {{ $first := true }}{{ range $key, $value := . }}{{ if not $first }}, {{ end }}{{ $first = false }}{{ $key }} = {{ include "hythe.value" $value }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $at, $value := . }}{{ if $at }}, {{ end }}{{ include "hythe.value" $value }}{{ end }}]
{{- else if kindIs "string" . -}}
{{ . | toJson }}
{{- else if kindIs "float64" . -}}
{{ if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* The configuration file. What the chart decides itself comes as variables, which win over it. */}}
{{- define "hythe.config" -}}
{{- with .Values.publicUrls }}
public_url = {{ include "hythe.value" . }}
{{- end }}
{{- with .Values.trustedProxies }}
trusted_proxy = {{ include "hythe.value" . }}
{{- end }}
{{- range $key, $value := .Values.config }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "hythe.value" $value }}
{{- end }}
{{- end }}
{{- range $table, $settings := .Values.config }}
{{- if kindIs "map" $settings }}

[{{ $table }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ include "hythe.value" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.accounts }}

[[accounts]]
{{- range $key, $value := . }}
{{ $key }} = {{ include "hythe.value" $value }}
{{- end }}
{{- end }}
{{ end -}}
