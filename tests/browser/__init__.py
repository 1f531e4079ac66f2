"""Tests in a browser. As a package it ends its fixtures with its tests: Playwright keeps a loop running."""
