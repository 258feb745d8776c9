"""The console: what people look at and click. Data comes from selectors, every change goes through a service."""
