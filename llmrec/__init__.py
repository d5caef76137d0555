"""A library for recommender systems with language models; every public name can be imported from here, and is loaded when it is first used."""
import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
