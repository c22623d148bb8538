"""The checks of deploy/, one module each; tools/check-deploy.py runs them."""
