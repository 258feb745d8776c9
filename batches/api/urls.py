"""The addresses that the Go server and the panel know; without trailing slash, never redirected."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
